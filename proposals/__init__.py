"""Windows: candidate regions of an image, where they are kept, and how well they cover objects."""

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
