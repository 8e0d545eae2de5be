"""Which arrays belong together, the checks of single arguments, and the host's random numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import array_api_compat as compat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import assert_same_kind

from grng_ref.arrays import (
    backend_name,
    check_choice,
    check_finite,
    check_integer,
    check_real,
    check_shape,
    device_of,
    epsilon,
    host_generator,
    like,
    namespace,
    namespace_of_mixed,
    stream,
)
from grng_ref.arrays.draws import STREAMS

# --- namespaces --------------------------------------------------------------------------------------------


def test_the_namespace_is_that_of_the_arguments(backend):
    a, b = backend.asarray(np.ones(2)), backend.asarray(np.ones((3, 4)))
    xp = namespace(a=a, skipped=None, b=b)
    assert xp is compat.array_namespace(a)
    assert backend_name(xp) == backend.library
    assert device_of(a) == compat.device(a)


@pytest.mark.parametrize(
    "stranger", [np.zeros((1, 1)).view(np.matrix), np.ma.masked_array([1.0]), 1.0, [1.0]], ids=type
)
def test_a_type_that_was_met_lets_no_other_type_in(backend, stranger):
    """Namespaces are remembered by type: an array before must not change what is refused after it."""
    array = backend.asarray(np.zeros(2))
    for _ in range(2):
        assert namespace(array=array) is compat.array_namespace(array)
        with pytest.raises(TypeError, match="stranger must be an array"):
            namespace(stranger=stranger)


def test_new_arrays_are_like_their_template(backend):
    template = backend.asarray(np.ones(3))
    made = namespace(template=template).zeros(3, **like(template))
    assert_same_kind(made, template)
    assert epsilon(template) == np.finfo(backend.dtype).eps


def test_two_dtypes_are_not_mixed_silently(backend):
    a = backend.asarray(np.ones(2))
    other = "float32" if backend.dtype == "float64" else "float64"
    b, labels = backend.asarray(np.ones(2), dtype=other), backend.asarray(np.arange(2))
    with pytest.raises(TypeError, match=rf"b has dtype .*{other} but a has .*{backend.dtype}"):
        namespace(a=a, b=b)
    with pytest.raises(TypeError, match=r"labels must be a float32 or float64 array, got dtype .*int64"):
        namespace(a=a, labels=labels)
    assert namespace_of_mixed(a=a, b=b, labels=labels) is namespace(a=a)


def test_two_libraries_are_not_mixed(backend):
    a, host = backend.asarray(np.ones(2)), np.ones(2, dtype=backend.dtype)
    if backend.library == "numpy":
        assert namespace(a=a, host=host) is namespace(host=host)
        return
    for together in (namespace, namespace_of_mixed):
        with pytest.raises(
            TypeError, match=rf"host belongs to numpy but a to {backend.library}.*gr\.asarray"
        ):
            together(a=a, host=host)


def test_no_array_at_all():
    with pytest.raises(TypeError, match="at least one array"):
        namespace(a=None)


# --- checks ------------------------------------------------------------------------------------------------


def test_check_finite_names_the_first_bad_argument(backend):
    good, labels = backend.asarray(np.ones((2, 3))), backend.asarray(np.arange(3))
    bad = {value: backend.asarray(np.array([[0.0, value]])) for value in (np.nan, np.inf, -np.inf)}
    check_finite(good=good, labels=labels, nothing=None, empty=backend.asarray(np.zeros((0, 3))))
    for value in bad.values():
        with pytest.raises(ValueError, match="second must be finite"):
            check_finite(first=good, labels=labels, second=value, third=bad[np.inf])


@given(
    shape=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    wanted=st.lists(st.none() | st.integers(0, 3), max_size=3).map(tuple),
)
def test_check_shape_against_its_definition(shape, wanted):
    fits = len(shape) == len(wanted)
    for have, want in zip(shape, wanted, strict=False):
        fits = fits and (have >= 1 if want is None else have == want)
    array = np.empty(shape)
    if fits:
        check_shape("a", array, wanted, "meaning")
    else:
        with pytest.raises(ValueError, match=r"a must have shape .* = meaning, got "):
            check_shape("a", array, wanted, "meaning")


def test_real_numbers_of_every_kind(backend):
    scalar = backend.asarray(np.array(0.5))
    for value in (0.5, 1, Fraction(1, 2), np.float32(0.5), np.int8(1), scalar, backend.asarray(np.array(1))):
        number = check_real("a", value, minimum=0.5)
        assert type(number) is float
        assert number == float(value)


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), "0.5", None, 1j, np.complex128(1), [0.5], np.array([0.5]), np.str_("1")]
)
def test_what_is_no_real_number(value):
    with pytest.raises(TypeError, match="a must be a real number, got "):
        check_real("a", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, -(10**400), Fraction(10**400)])
def test_numbers_that_are_not_finite(value):
    with pytest.raises(ValueError, match="a must be a finite number, got "):
        check_real("a", value)


def test_bounds_are_part_of_the_range_unless_exclusive():
    assert check_real("a", 0.0, minimum=0.0) == 0.0
    with pytest.raises(ValueError, match="a must be a finite number >= 0, got -5e-324"):
        check_real("a", -5e-324, minimum=0.0)
    with pytest.raises(ValueError, match="a must be a finite number > 0, got 0"):
        check_real("a", 0.0, minimum=0.0, exclusive=True)
    assert check_real("a", 5e-324, minimum=0.0, exclusive=True) == 5e-324


def test_integers():
    assert [check_integer("n", v, minimum=0) for v in (0, np.int32(3), 10**30)] == [0, 3, 10**30]
    assert type(check_integer("n", np.uint8(3), minimum=0)) is int
    for value in (1.0, True, "1", None, np.float64(1), np.array([1])):
        with pytest.raises(TypeError, match="n must be an integer, got"):
            check_integer("n", value, minimum=0)
    with pytest.raises(ValueError, match="n must be an integer >= 1, got 0"):
        check_integer("n", 0, minimum=1)


def test_choices():
    assert check_choice("kind", "b", iter("abc")) == "b"
    for value in ("d", "", "B", None, 1, ["a"]):
        with pytest.raises(ValueError, match="kind must be one of 'a', 'b', 'c'; got "):
            check_choice("kind", value, "abc")


# --- random numbers ----------------------------------------------------------------------------------------


def test_seeds_give_numpy_s_own_streams():
    for seed in (0, 7, np.int64(7), [3, 5], (3, 5)):
        expected = np.random.default_rng(seed).standard_normal(4)
        assert np.array_equal(host_generator(seed).standard_normal(4), expected)


def test_a_generator_is_used_as_it_is():
    generator = np.random.default_rng(1)
    assert host_generator(generator) is generator
    assert stream(generator, "data") is generator


def test_streams_are_numpy_s_spawned_ones():
    """``spawn`` numbers the children of a seed from 0, each of which has children of its own."""
    children = np.random.SeedSequence(7).spawn(len(STREAMS))
    for i, use in enumerate(STREAMS):
        expected = np.random.default_rng(children[i]).standard_normal(4)
        assert np.array_equal(stream(7, use).standard_normal(4), expected)
    grandchild = children[0].spawn(5)[4]
    assert np.array_equal(
        stream(7, "batches", 4).permutation(9), np.random.default_rng(grandchild).permutation(9)
    )


@pytest.mark.parametrize("rng", [None, "0", 0.0, True, [0, None], [0, 1.5], np.random.default_rng, object()])
def test_what_is_no_seed(rng):
    for draw in (host_generator, lambda given: stream(given, "data")):
        with pytest.raises(TypeError, match=r"rng must be an integer seed or a numpy.random.Generator, got "):
            draw(rng)


@pytest.mark.parametrize("rng", [-1, [0, -1]])
def test_negative_seeds(rng):
    with pytest.raises(ValueError, match="rng must be a seed >= 0, got "):
        host_generator(rng)
