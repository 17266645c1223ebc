"""Sweeps of a table: a Newton system that gains or loses one teacher at a time.

`A` is the table of `H`, the Gram matrix of the teachers' differences to one of them, the base.
Differences take the constraint sum w = 1 away. If the teachers `S` are swept (by Beaton's
operator, kept symmetric) the table contains

    A_SS = -inverse(H_SS),   A_Sk = inverse(H_SS) H_Sk,   A_kk = what H_kk adds to S

Thus `A_SS slope_S` is Newton's direction over `S`, and `e_k - A_Sk` is how `S` answers if teacher
k moves. A sweep costs O(M^2) and takes one teacher into `S` or out of it. The base belongs to `S`,
with curvature zero, and can leave it if another teacher stays. XLA's factorizations are custom
calls, so the sweep is written out.

Reference: Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician, 1979.
"""

from __future__ import annotations

import tensorflow as tf

from aekd_tf.qp.problem import HUGE, diagonal


def at(values: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Returns `values [N, M]` at `position [N]`, as `[N, 1]`."""
    return tf.gather(values, position, batch_dims=1)[:, None]


def new_table(gram: tf.Tensor, base: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(table [N, M, M], is_base [N, M])` with only `base [N]` swept."""
    is_base = tf.range(gram.shape[-1]) == base[:, None]
    row = tf.gather(gram, base, batch_dims=1)
    table = (gram - row[:, :, None]) - (row - at(row, base))[:, None, :]
    # The base gives the weight that another takes.
    down, across = is_base[:, :, None], is_base[:, None, :]
    edge = tf.where(down & across, tf.zeros([], gram.dtype), tf.ones([], gram.dtype))
    return tf.where(down | across, edge, table), is_base


def sweep(
    table: tf.Tensor,
    swept: tf.Tensor,
    free: tf.Tensor,
    active: tf.Tensor,
    norms: tf.Tensor,
    threshold: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sweeps until `S` is the free teachers, except those that depend on the others.

    Args:
        table, swept: `[N, M, M]` and `[N, M]`, from `new_table` or from here.
        free: `[N, M]`, the teachers to be swept.
        active: `[N]`, the problems to touch.
        norms: `[N, M]`, the sums that the diagonal of `H` was computed from.
        threshold: a share of `norms`; a teacher that adds less curvature to `S` is dependent.

    Returns:
        `(table, swept)`.
    """
    index = tf.range(table.shape[-1])

    def following(table, swept, count):
        """Returns what the next sweep takes, `(k, row, scaled, edge, count)`; k = -1 for none."""
        curvature = diagonal(table)
        share = tf.math.divide_no_nan(curvature, norms)
        enters = free & ~swept & (share > threshold)
        # The last one stays, because it could give its weight to nobody.
        leaves = swept & ~free & (curvature < 0) & (count > 1)
        waiting = tf.where(leaves, tf.constant(HUGE, table.dtype), tf.where(enters, share, 0.0))
        k = tf.argmax(waiting, -1, output_type=tf.int32)
        going, back = (at(waiting, k) > 0) & active[:, None], at(swept, k)
        row = tf.gather(table, k, batch_dims=1)
        inverse = tf.math.reciprocal_no_nan(at(row, k))
        scaled = row * inverse
        edge = tf.where(index == k[:, None], -inverse, tf.where(back, -scaled, scaled))
        count += tf.where(going, tf.where(back, -1, 1), 0)
        return tf.where(going[:, 0], k, -1), row, scaled, edge, count

    def step(table, swept, k, row, scaled, edge, count):
        is_k = index == k[:, None]
        down, across = is_k[:, :, None], is_k[:, None, :]
        new = table - row[:, :, None] * scaled[:, None, :]
        new = tf.where(down, edge[:, None, :], tf.where(across, edge[:, :, None], new))
        table = tf.where((k >= 0)[:, None, None], new, table)
        swept = tf.math.logical_xor(swept, is_k)
        return table, swept, *following(table, swept, count)

    def unfinished(table, swept, k, row, scaled, edge, count):
        return tf.reduce_any(k >= 0)

    # A step prepares the next one: XLA would otherwise repeat this work per entry of the table.
    count = tf.reduce_sum(tf.cast(swept, tf.int32), -1, keepdims=True)
    state = (table, swept, *following(table, swept, count))
    return tf.while_loop(unfinished, step, state)[:2]
