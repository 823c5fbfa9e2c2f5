"""Races that nobody ran: every figure is INVENTED, to be told apart in a table, and says nothing about any card."""

from peers.record import OURS, PEERS, Conditions, Declined, Race, Record, Result

EAGER, GRAPH, COMPILE = PEERS["eager"], PEERS["graph"], PEERS["compile"]


def result(ms: float, **more: object) -> Result:
    return Result(**{"ms": ms, "error": 0.001, "ready_s": 2.0} | more)  # type: ignore[arg-type]


def race(network: str = "resnet50", batch: int = 1, declined: dict[str, Declined] | None = None, **ms: float) -> Race:
    """race("vgg19", 8, ours=1.0, eager=2.0): contenders by the words of --peers."""
    results = {PEERS.get(word, OURS): result(each) for word, each in ms.items()}
    return Race(network=network, batch=batch, conditions=0, layers="9 → 3", results=results, declined=declined or {})


def conditions(gpu: str = "INVENTED GPU") -> Conditions:
    return Conditions(gpu=gpu, driver="0.0", versions={"torch": "0"}, date="2000-01-01", command="python invented.py")


def record(*races: Race) -> Record:
    return Record(conditions=[conditions()], races=list(races))
