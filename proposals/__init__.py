"""Windows (candidate regions of an image): making and storing them, and measuring their recall."""

from proposals.edge_boxes import EdgeBoxes
from proposals.methods import Proposals
from proposals.recall import ProposalRecall, proposal_recall
from proposals.selective_search import SelectiveSearch
from proposals.store import Windows, WindowStore, WindowUnion

__all__ = [
    "EdgeBoxes",
    "ProposalRecall",
    "Proposals",
    "SelectiveSearch",
    "WindowStore",
    "WindowUnion",
    "Windows",
    "proposal_recall",
]
