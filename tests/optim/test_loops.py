"""The two orders in which training loops are usually written, with models small enough to read."""

from __future__ import annotations

import numpy as np

from numbacnn import optim, random
from numbacnn.autograd import Parameter
from numbacnn.functional import linear
from numbacnn.functional.activation import relu
from numbacnn.functional.loss import cross_entropy, l2_penalty


class TinyModel:
    """Two layers for points in the plane."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.layers = [
            Parameter(a.astype(np.float32))
            for a in (rng.standard_normal((16, 2)), np.zeros(16), 0.3 * rng.standard_normal((2, 16)), np.zeros(2))
        ]

    def parameters(self):
        return iter(self.layers)

    def __call__(self, x):
        return linear(relu(linear(x, *self.layers[:2])), *self.layers[2:])


def points():
    """Inside or outside a circle, in batches of 32."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (256, 2)).astype(np.float32)
    y = ((x**2).sum(1) < 0.5).astype(np.int64)
    return [(x[i : i + 32], y[i : i + 32]) for i in range(0, 256, 32)]


def accuracy(model, dataloader):
    return np.mean([(model(x).data.argmax(1) == y).mean() for x, y in dataloader])


def test_forward_loss_zero_grad_backward_step():
    random.manual_seed(0)
    model, dataloader, loss_fn, num_epochs = TinyModel(), points(), cross_entropy, 40
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    def preprocess(x):
        return x * np.float32(2)

    losses = []
    for epoch in range(num_epochs):  # noqa: B007
        for batch in dataloader:
            x, y = batch
            x = preprocess(x)
            y_pred = model(x)
            loss = loss_fn(y_pred, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert accuracy(lambda x: model(preprocess(x)), dataloader) > 0.95


def test_forward_loss_backward_step_zero_grad_with_a_penalty_and_a_schedule():
    random.manual_seed(0)
    model, dataloader, E = TinyModel(), points(), 40
    optimizer = optim.SGD(model.parameters(), lr=0.2, momentum=0.9)

    def augment(x):
        return x * random.generator().choice(np.array([-1, 1], np.float32), (len(x), 1))

    def criterion(logits, y):
        return cross_entropy(logits, y) + l2_penalty(model.parameters(), 1e-4)

    class Scheduler:
        def step(self):
            for group in optimizer.param_groups:
                group["lr"] *= 0.97

    scheduler = Scheduler()
    for epoch in range(E):  # noqa: B007
        for X, y in dataloader:
            X = augment(X)
            logits = model(X)
            loss = criterion(logits, y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        scheduler.step()
    assert accuracy(model, dataloader) > 0.95


def test_both_orders_are_the_same_computation():
    results = []
    for before in (True, False):
        model = TinyModel()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        for x, y in points():
            loss = cross_entropy(model(x), y)
            if before:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if not before:
                optimizer.zero_grad()
        results.append([p.data for p in model.parameters()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_accumulate_until_zero_grad():
    model = TinyModel()
    x, y = points()[0]
    cross_entropy(model(x), y).backward()
    once = [p.grad.copy() for p in model.parameters()]
    cross_entropy(model(x), y).backward()
    for p, g in zip(model.parameters(), once, strict=True):
        np.testing.assert_allclose(p.grad, 2 * g, rtol=1e-6)
