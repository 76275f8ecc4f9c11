"""Makes the stand-in weights `srresnet-x4`: a plain SRResNet pretraining loop that ends after a given time.

usage: python tools/pretrain.py PICTURES OUT.safetensors [--minutes 90] [--batch 8] [--crop 96] [--lr 5e-4]

L1 between the generator's output and the original, Adam, a learning rate that follows half a cosine over the *time*
that is left, bf16 autocast with fp32 master weights, and an exponential moving average of the weights, which is what
is written. Interrupted and started again with the same OUT it goes on where it stopped.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from srgan_fast.data.cache import open_cache
from srgan_fast.data.crops import CropSampler
from srgan_fast.models.generator import Generator
from srgan_fast.models.presets import generator_config

EMA_DECAY = 0.999
WARM_UP_STEPS = 200
SAVE_EVERY_SECONDS = 120.0


def main() -> None:
    """Trains, prints the loss every 50 steps, and writes the averaged weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--lr", type=float, default=5e-4)
    args = parser.parse_args()

    torch.manual_seed(0)
    generator = Generator(generator_config("paper")).to(memory_format=torch.channels_last)
    average = Generator(generator_config("paper"))
    average.load_state_dict(generator.state_dict())
    optimiser = torch.optim.Adam(generator.parameters(), lr=args.lr, fused=True)
    sampler = CropSampler(open_cache(args.pictures), args.crop, generator.scale, args.batch, seed=0)
    state_file = args.out.with_suffix(".state.pt")
    step, seconds = 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        generator.load_state_dict(state["generator"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, seconds = state["step"], state["seconds"]

    def save() -> None:
        state = {
            "generator": generator.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "seconds": seconds,
        }
        temporary = state_file.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(state_file)

    saved, losses = time.monotonic(), []
    while seconds < args.minutes * 60:
        began = time.monotonic()
        fraction = seconds / (args.minutes * 60)
        rate = args.lr * min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.01, 0.5 * (1 + math.cos(math.pi * fraction)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        hr, lr = (torch.from_numpy(a).permute(0, 3, 1, 2).float() / 255 for a in sampler(step))
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            sr = generator(lr)
        loss = F.l1_loss(sr.float(), hr)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        step += 1
        with torch.no_grad():
            decay = min(EMA_DECAY, step / (step + 10))
            ours, theirs = average.state_dict(), generator.state_dict()
            for name, value in ours.items():
                if value.is_floating_point():
                    value.lerp_(theirs[name], 1 - decay)
        losses.append(loss.item())
        seconds += time.monotonic() - began
        if step % 50 == 0:
            mean = sum(losses) / len(losses)
            line = {"step": step, "minutes": round(seconds / 60, 2), "loss": round(mean, 5), "rate": round(rate, 7)}
            print(json.dumps(line), flush=True)
            losses.clear()
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            save()
            saved = time.monotonic()
    save()

    from srgan_fast.models import save_generator  # noqa: PLC0415

    provenance = {
        "stage": "pretrain, L1",
        "steps": str(step),
        "batch": f"{args.batch} crops of {args.crop}x{args.crop}",
        "hours": f"{seconds / 3600:.2f}",
    }
    save_generator(average, args.out, preset="paper", metadata=provenance)


if __name__ == "__main__":
    main()
