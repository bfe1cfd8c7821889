"""Two networks that learn from each other: sweeptrail sweep gan:train lr=0.01,0.001 --goal min:distance"""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

BATCHES, BATCH_SIZE, NOISE = 20, 64, 4


def mlp(inputs, hidden, outputs):
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, outputs))


def ring():
    """Draw points from the circle that the generator is to imitate."""
    angle = 2 * torch.pi * torch.rand(BATCH_SIZE)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def train(manager, *, lr: float = 0.001, hidden: int = 32, epochs: int = 5):
    """Teach a generator to draw points from a circle."""
    generator, discriminator = mlp(NOISE, hidden, 2), mlp(2, hidden, 1)
    optimizer = torch.optim.Adam(generator.parameters(), lr=lr)
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=lr)
    real, false = torch.ones(BATCH_SIZE, 1), torch.zeros(BATCH_SIZE, 1)
    # All four are in the checkpoint: whatever is handed in by a name and has a state_dict.
    for _ in manager.epochs(
        epochs,
        network=generator,
        optimizer=optimizer,
        discriminator=discriminator,
        discriminator_optimizer=discriminator_optimizer,
    ):
        discriminator_losses = []
        for _ in range(BATCHES):
            points = generator(torch.randn(BATCH_SIZE, NOISE))
            judged, judged_real = discriminator(points.detach()), discriminator(ring())
            discriminator_loss = cross_entropy(judged, false) + cross_entropy(judged_real, real)
            discriminator_optimizer.zero_grad()
            discriminator_loss.backward()
            discriminator_optimizer.step()
            discriminator_losses.append(discriminator_loss.detach())

            loss = cross_entropy(discriminator(points), real)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            manager.track_loss(loss)
        distance = (points.detach().norm(dim=1) - 1).abs().mean()
        manager.log(discriminator_loss=torch.stack(discriminator_losses).mean(), distance=distance)
