"""Arrays: what the package asks of the array libraries, which nothing else imports for its algorithms.

Namespaces and devices come from the inputs; `asarray` and `to_numpy` are the only doors through which
data moves; errors name the argument, what it got and what it needs.
"""

from .describe import describe_backends
from .draws import host_generator, stream
from .errors import BackendError, NumericalError
from .namespaces import (
    Array,
    backend_name,
    check_choice,
    check_finite,
    check_floating,
    check_integer,
    check_real,
    check_representable,
    check_shape,
    device_of,
    epsilon,
    like,
    namespace,
    namespace_of_mixed,
)
from .transfer import (
    BACKENDS,
    asarray,
    dtype_name,
    from_host,
    load_backend,
    map_arrays,
    row_major_copy,
    to_numpy,
)

__all__ = [
    "BACKENDS",
    "Array",
    "BackendError",
    "NumericalError",
    "asarray",
    "backend_name",
    "check_choice",
    "check_finite",
    "check_floating",
    "check_integer",
    "check_real",
    "check_representable",
    "check_shape",
    "describe_backends",
    "device_of",
    "dtype_name",
    "epsilon",
    "from_host",
    "host_generator",
    "like",
    "load_backend",
    "map_arrays",
    "namespace",
    "namespace_of_mixed",
    "row_major_copy",
    "stream",
    "to_numpy",
]
