"""Steps instead of epochs: sweeptrail sweep steps:solve lr=0.1,0.01 momentum=0,0.9 --goal min:value"""

import torch


def solve(manager, *, lr: float = 0.01, momentum: float = 0.0, steps: int = 1000):
    """Go down the valley of Rosenbrock's function."""
    point = torch.tensor([-1.0, 1.0], requires_grad=True)
    optimizer = torch.optim.SGD([point], lr=lr / 100, momentum=momentum)
    for step in range(steps):
        x, y = point
        value = (1 - x) ** 2 + 100 * (y - x**2) ** 2
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        manager.log(step=step, value=value)
    manager.log(x=point[0], y=point[1])
