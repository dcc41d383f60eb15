"""The networks by name; to add one, write its file in this folder and add a line here."""

from detection.networks.network import Network
from detection.networks.zoo.alexnet import ALEXNET
from detection.networks.zoo.convnet5 import CONVNET5
from detection.networks.zoo.efficientnet_lite0 import EFFICIENTNET_LITE0
from detection.networks.zoo.overfeat import OVERFEAT5, OVERFEAT7
from detection.networks.zoo.resnet50_caffe import RESNET50_CAFFE
from detection.networks.zoo.torchvision_layer import torchvision_layer
from detection.networks.zoo.vgg16 import VGG16
from detection.networks.zoo.zf5 import ZF5

NETWORKS: dict[str, Network] = {
    "alexnet": ALEXNET,
    "vgg16": VGG16,
    "zf5": ZF5,
    "convnet5": CONVNET5,
    "overfeat5": OVERFEAT5,
    "overfeat7": OVERFEAT7,
    "efficientnet_lite0": EFFICIENTNET_LITE0,
    "resnet50_caffe": RESNET50_CAFFE,
}


def network_named(name: str) -> Network:
    """A network of the catalogue, or one of torchvision's, named ``model/layer``.

    Raises:
        ValueError: no such network.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    model, slash, layer = name.partition("/")
    if not slash:
        raise ValueError(
            f"network must be one of {', '.join(NETWORKS)}, or one of torchvision's with a layer "
            f"(resnet50/layer3), got {name!r}"
        )
    return torchvision_layer(model, layer)
