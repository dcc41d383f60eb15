"""The stage of the training windows' features, which the linear learners need."""

from collections.abc import Iterator, Sequence

import numpy as np
from joblib import delayed
from numpy.typing import NDArray

from detection.data.records import Dataset, ImageRecord
from detection.features.build import ExtractorSpec, extractor_of_process
from detection.features.extractor import Extractor
from detection.run import Run
from detection.training.extractors import extractor_spec
from detection.training.feature_cache import FeatureCache, Sampling, image_key
from files.names import content_key
from proposals.store import Windows


def window_features_stage(
    run: Run, sampling: Sampling, data: Dataset, windows: Windows, extractor: Extractor
) -> FeatureCache:
    """Features of the windows that SVMs take for positives and box regression learns from."""
    cache = FeatureCache(run.cache, extractor, windows.method.key, data.classes, sampling)
    missing = [record for record in data.records if not cache.has(record)]
    run.done_before("training windows", len(data.records) - len(missing), len(data.records))
    if missing:
        with run.stage("training windows", len(missing)):
            pooled = _cache_all(run, cache, extractor, windows, missing)
            for _ in run.progress(pooled, "pooling", len(missing)):
                pass
    return cache


def _cache_all(
    run: Run,
    cache: FeatureCache,
    extractor: Extractor,
    windows: Windows,
    records: Sequence[ImageRecord],
) -> Iterator[None]:
    """Pool images."""
    spec = extractor_spec(run, extractor)
    shared = cache if spec is None else cache.served_by(None)
    pool = run.pool("generator_unordered")
    yield from pool(
        delayed(_pool)(shared, spec, record, record.turned(windows.load(record.path)))
        for record in records
    )


def _pool(
    cache: FeatureCache,
    spec: ExtractorSpec | None,
    record: ImageRecord,
    proposals: NDArray[np.float32],
) -> None:
    """Pool an image; in another process with that process's own extractor."""
    served = cache if spec is None else cache.served_by(extractor_of_process(spec))
    served.add(record, proposals)


def data_key(cache: FeatureCache, data: Dataset) -> str:
    """What determines the rows a run learns from: the cache's settings and every image."""
    return content_key(
        {"bank": cache.key, "images": [image_key(record) for record in data.records]}
    )
