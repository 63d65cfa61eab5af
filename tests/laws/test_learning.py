"""It learns, and any engine may teach it."""

GAIN = 0.3
LEAST = 0.6


def test_it_learns(registered, kind):
    """Two of six classes a worker: guessing gives 0.17, ten rounds must give far more."""
    engine = registered.engine(kind)
    state = registered.begin()
    before = registered.accuracy(state, engine.memory)
    for _ in range(10):
        state = registered.play(engine, state, 1)
    after = registered.accuracy(state, engine.memory)
    assert after >= LEAST, f"accuracy {before:.2f} -> {after:.2f}"
    assert after - before >= GAIN, f"accuracy {before:.2f} -> {after:.2f}"


def test_losses_fall(registered):
    """What workers report falls, for the loss they minimise themselves."""
    engine, state, means = registered.engine("serial"), registered.begin(), []
    for _ in range(7):
        replies = list(engine.map(registered.method.solve, registered.jobs(engine, state)))
        means.append(sum(reply.record.loss_mean for reply in replies) / len(replies))
        state = registered.play(engine, state, 1)
    assert means[-1] < 0.8 * means[0], means
