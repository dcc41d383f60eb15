"""The networks by name: a new one is a file beside these and a line here."""

from detection.networks.alexnet import ALEXNET
from detection.networks.network import Network
from detection.networks.vgg16 import VGG16
from detection.networks.zf5 import ZF5

NETWORKS: dict[str, Network] = {"alexnet": ALEXNET, "vgg16": VGG16, "zf5": ZF5}
