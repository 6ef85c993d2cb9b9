"""The program's optimizers and learning rate schedules, by `torch.optim`. The structures are those of an options.json."""

import math

import torch

from networks import decays


def build_optimizer(named_parameters, options, learning_rate):
    """SGD with Nesterov momentum or AdamW; biases and normalisations do not decay."""
    named = list(named_parameters)
    groups = [
        {"params": [p for name, p in named if decays(name)], "weight_decay": options["weight_decay"]},
        {"params": [p for name, p in named if not decays(name)], "weight_decay": 0.0},
    ]
    constants = options["optimizer"]
    if constants["name"] == "sgd":
        momentum = constants["momentum"]
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0.0)
    betas = (constants["beta1"], constants["beta2"])
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=constants["epsilon"])


def build_schedule(optimizer, options, steps):
    """One scheduler step per training step; the optimizer was made with the schedule's peak."""
    if options["kind"] == "one-cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=options["peak"],
            total_steps=steps,
            pct_start=options["warmup_fraction"],
            anneal_strategy="cos",
            cycle_momentum=False,
            div_factor=options["initial_divisor"],
            final_div_factor=options["final_divisor"],
        )
    # A share is the decimal that was meant, not the float32 next to it.
    warmup = math.floor(round(options["warmup_fraction"], 6) * steps)

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        if options["kind"] == "constant":
            return 1.0
        final = options["final_fraction"]
        return final + (1.0 - final) / 2.0 * (1.0 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
