"""What ``/metrics`` shows, in Prometheus's text format."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response

from digits.web.stream import Message

LATENCIES_S = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0)


class Metrics:
    """Counts of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.open = Gauge("digits_streams_open", "Streams that are open now", registry=self.registry)
        self.closed = Counter("digits_streams_closed", "Streams that have ended, by why", ["why"], registry=self.registry)
        self.heard = Counter("digits_heard", "Digits that were accepted", ["digit"], registry=self.registry)
        self.rejected = Counter("digits_rejected", "Sounds that were rejected, by reason", ["reason"], registry=self.registry)
        self.uploads = Counter("digits_uploads", "Recordings sent by HTTP, by status code", ["status"], registry=self.registry)
        self.latency = Histogram(
            "digits_latency_seconds", "From the end of a sound to its answer", buckets=LATENCIES_S, registry=self.registry
        )

    def count(self, message: Message) -> None:
        """Count a message that tells of a sound."""
        if message["type"] != "heard":
            return
        if message["accepted"]:
            self.heard.labels(message["digit"]).inc()
        else:
            self.rejected.labels(message["reason"]).inc()
        self.latency.observe(message["latency_ms"] / 1000)

    def page(self) -> Response:
        """The answer to a request for them."""
        return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})
