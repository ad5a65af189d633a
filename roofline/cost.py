"""What work costs, on any device: FLOP and bytes. Costs add; times do not."""

from dataclasses import dataclass, fields

from .structs import Number


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOP and bytes, elementwise. Knows no device.

    `matrix_flop` can run on matrix units, `vector_flop` cannot (1 FMA = 2 FLOP; exp, max, compare count 1).
    Bytes are those that must cross the memory interface once if nothing is reused between kernels, split by what
    they carry: weights, activations, and the KV cache. `link_byte`: bytes that one device sends to others.
    """

    matrix_flop: Number = 0.0
    vector_flop: Number = 0.0
    weight_read_byte: Number = 0.0
    activation_read_byte: Number = 0.0
    activation_write_byte: Number = 0.0
    kv_read_byte: Number = 0.0
    kv_write_byte: Number = 0.0
    link_byte: Number = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, name) + getattr(other, name) for name in COST_FIELDS))

    def __mul__(self, count: Number) -> "Cost":
        return Cost(*(getattr(self, name) * count for name in COST_FIELDS))

    @property
    def flop(self) -> Number:
        """All floating-point operations."""
        return self.matrix_flop + self.vector_flop

    @property
    def read_byte(self) -> Number:
        """Bytes read from memory."""
        return self.weight_read_byte + self.activation_read_byte + self.kv_read_byte

    @property
    def write_byte(self) -> Number:
        """Bytes written to memory."""
        return self.activation_write_byte + self.kv_write_byte

    @property
    def memory_byte(self) -> Number:
        """Bytes read and written."""
        return self.read_byte + self.write_byte


COST_FIELDS = tuple(field.name for field in fields(Cost))
