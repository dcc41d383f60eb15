"""The extractors of a training, by its settings: here, and in the processes that share the work."""

from pathlib import Path

from detection.features.build import ExtractorSpec, build_extractor
from detection.features.extractor import Extractor, SPPExtractor
from detection.features.map_store import MapStore
from detection.features.scales import SCALES
from detection.networks.backbone import Backbone
from detection.run import Run
from files.artefacts import write_artefact


def make_extractor(run: Run, backbone: Backbone) -> Extractor:
    """What makes the features that SVMs and box regression learn from."""
    config = run.config
    if config.features == "spp":
        return spp_extractor(run, backbone)
    rule = config.network.scale_rule
    return build_extractor("rcnn", backbone, (), rule, config.precision)


def extractor_spec(run: Run, extractor: Extractor) -> ExtractorSpec | None:
    """What other processes make the extractor of, its trunk in a file of the run's.

    None where all work is done in this process, by the extractor itself.
    """
    if run.shares_network:
        return None
    config, backbone = run.config, extractor.backbone
    path = run.artefact("trunk", backbone.digest[:16])
    if not path.exists():
        arrays = {name: value.cpu().numpy() for name, value in backbone.tensors().items()}
        write_artefact(path, backbone.digest, arrays)
    return ExtractorSpec(
        config.features,
        backbone.name,
        path,
        backbone.digest,
        SCALES[config.scales],
        config.network.scale_rule,
        config.precision,
        map_limits(run) if config.features == "spp" else None,
        run.device.type,
    )


def map_limits(run: Run) -> tuple[Path, float] | None:
    """Folder and bytes of the maps to keep; None where none are kept."""
    limit = run.config.network.keep_maps_gb * 1e9
    return (run.cache / "maps", limit) if limit else None


def spp_extractor(run: Run, backbone: Backbone, *, keep_maps: bool = True) -> SPPExtractor:
    """SPP-net's features of training images, whose maps are kept where the settings say so."""
    config, limits = run.config, map_limits(run) if keep_maps else None
    store = None if limits is None else MapStore(*limits)
    scales, rule = SCALES[config.scales], config.network.scale_rule
    return SPPExtractor(backbone, scales, rule, config.precision, store)
