"""A label for each token, batches that are dicts: sweeptrail sweep tagging:train lr=0.1,0.01 hidden=16,32"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

LENGTH, VOCABULARY, TAGS = 12, 30, 3


class Sentences(Dataset):
    """Sentences made up here: the tag of a token is the remainder of its sum with the one before, divided by 3."""

    def __init__(self, count, seed):
        self.tokens = torch.randint(VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(seed))
        self.tags = (self.tokens + self.tokens.roll(1, dims=1)) % TAGS

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"tokens": self.tokens[index], "tags": self.tags[index]}


class Tagger(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, TAGS)

    def forward(self, tokens):
        return self.out(self.lstm(self.embedding(tokens))[0]).transpose(1, 2)  # (batch, tags, tokens)


def train(manager, *, lr: float = 0.01, hidden: int = 32, epochs: int = 5):
    """Learn to tag the tokens."""
    loader = DataLoader(Sentences(500, seed=1), batch_size=25, shuffle=True)
    held_out = Sentences(100, seed=2)
    network = Tagger(hidden)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for _ in manager.epochs(epochs, network=network, optimizer=optimizer, loader=loader):
        for batch in loader:
            preds = network(batch["tokens"])
            loss = cross_entropy(preds, batch["tags"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            manager.track_loss(loss)
            manager.track_num_correct(preds, batch["tags"])
        with torch.no_grad():
            correct = network(held_out.tokens).argmax(dim=1) == held_out.tags
        manager.log(validation_accuracy=correct.float().mean())
