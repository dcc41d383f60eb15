"""A tiny fine-tuning by the processes that torchrun starts: its losses, weights and curve.

Called with a folder, the first layer that is trained, the step at which to end, 0 for none, and
which process is killed there; -1 for all.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from made_batches import made_records
from made_network import SETTINGS, made_network, window_batches
from safetensors.torch import save_file

from detection.ranks import joined, rank_of_process
from detection.training.finetuning.descent import Descent
from detection.training.finetuning.finetune import finetune_head

folder, layers = Path(sys.argv[1]), sys.argv[2]
end, dying = map(int, sys.argv[3:])
torch.set_num_threads(1)
settings = replace(SETTINGS, train_from=layers, jitter=0.2, images=4, conv_images=4)
if rank_of_process() == 0:
    made_records(folder)
with joined(torch.device("cpu")) as ranks:
    with ranks.first_before_others():
        records = made_records(folder)
    network, events = made_network(settings), []

    def report(event):
        events.append(event)

    def steps(items, what, total):
        for step in items:
            if end and step == end and dying in (-1, ranks.rank):
                os.kill(os.getpid(), signal.SIGKILL)
            yield step

    finetune_head(
        Descent(network, settings, seed=0, ranks=ranks),
        window_batches(records, settings),
        window_batches(records, settings, seed=1),
        folder / "checkpoint",
        "key",
        report=report,
        progress=steps,
    )
if ranks.rank == 0:
    (folder / "events.json").write_text(json.dumps(events))
    trained = {n: v.detach().contiguous() for n, v in network.trained().items()}
    save_file(trained, folder / "weights.safetensors")
