"""Adapter arithmetic: several adapters on one model, sums and differences of them, merging and back.

    python examples/adapter_arithmetic.py

On the structure flow of the built-in model. Why each of these holds: markdown/lora_mathematics.md.
"""

import torch
from torch import Tensor

from sam3d_objects.model import load_model, lora

model = load_model("tiny", stages=("structure",))
flow, generator = model.structure_flow, torch.Generator().manual_seed(0)
noise = {name: torch.randn(shape, generator=generator) for name, shape in model.latent_shapes(batch=2).items()}
seen, time = torch.randn(2, 9, 128, generator=generator), torch.tensor([300.0])


@torch.no_grad()
def velocity() -> Tensor:
    """What the flow says with the adapters that are in use (2, tokens, channels)."""
    return flow(noise, time, seen)["shape"]


def check(claim: str, came: Tensor, expected: Tensor, within: float) -> None:
    """Print how far two tensors are apart, as a share of the largest value; fail beyond a bound."""
    apart = ((came - expected).abs().max() / expected.abs().max()).item()
    print(f"{claim}: apart {apart:.0e}")
    assert apart <= within, claim


# Two adapters of unlike rank and scale, as if each were trained on its organ (here: drawn).
base, said = velocity(), {}
for name, rank, alpha in (("liver", 4, 8.0), ("spleen", 2, 6.0)):
    lora.inject_lora(flow, rank=rank, alpha=alpha, adapter=name, seed=rank)
    check(f"a fresh {name} is the base", velocity(), base, within=0.0)
    state = lora.get_lora_state_dict(flow, name)
    lora.load_lora_state_dict(flow, {key: 0.03 * torch.randn(x.shape, generator=generator) for key, x in state.items()})
    said[name] = velocity()

lora.use_adapter(flow, "liver")
check("switched back to the liver", velocity(), said["liver"], within=0.0)
with lora.using_adapter(flow, {}):
    check("none in use is the base", velocity(), base, within=0.0)

lora.use_adapter(flow, {"liver": 0.7, "spleen": 0.3})
live = velocity()
lora.combine_adapters(flow, {"liver": 0.7, "spleen": 0.3}, "both")  # matrices side by side: rank 4 + 2
lora.use_adapter(flow, "both")
check("a sum as one adapter is the live sum", velocity(), live, within=1e-5)
lora.use_adapter(flow, {"both": 1.0, "liver": -0.7})
rest = velocity()
lora.use_adapter(flow, {"spleen": 0.3})
check("the sum less the liver is the spleen's share", rest, velocity(), within=1e-5)

lora.use_adapter(flow, "both")
before = {name: value.clone() for name, value in flow.state_dict().items()}
lora.merge_lora_weights(flow, keep=True)
check("merged is adapted", velocity(), live, within=1e-5)
assert not any("lora" in name for name in flow.state_dict()), "plain layers, under the base's names"
try:
    lora.inject_lora(flow, adapter="third")
except ValueError as error:
    print(f"refused: {str(error)[:60]} ...")
else:
    raise AssertionError("an adapter went into a merged model")
lora.unmerge_lora_weights(flow)
after = flow.state_dict()
assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
print("unmerged: every tensor as before, to the last bit")
