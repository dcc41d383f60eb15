"""Windows: candidate regions of an image, where they are kept, and how well they cover objects."""

from proposals.recall import ProposalRecall, proposal_recall
from proposals.selective_search import SelectiveSearch, propose
from proposals.store import WindowStore

__all__ = ["ProposalRecall", "SelectiveSearch", "WindowStore", "proposal_recall", "propose"]
