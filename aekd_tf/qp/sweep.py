"""Sweeps of a table: a Newton system that gains or loses one teacher at a time.

`A` is the table of `H`, the Gram matrix of the teachers' differences to one of them, the base,
which takes the constraint sum w = 1 away. Where the teachers `S` are swept (Beaton's operator,
kept symmetric) it holds

    A_SS = -inverse(H_SS),   A_Sk = inverse(H_SS) H_Sk,   A_kk = what H_kk holds beside S

so that `A_SS slope_S` is Newton's direction over them and `e_k - A_Sk` is how they answer where
teacher k moves. A sweep, of O(M^2), takes one teacher into `S` or out of it. The base is one of
`S`, by the curvature zero; it can leave like another when there is another. Written out because
XLA's factorizations are custom calls.

Reference: Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician, 1979.
"""

from __future__ import annotations

import tensorflow as tf

from aekd_tf.qp.pairs import Number, minus, normal, number, over, plus, times


def at(values: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """`values [N, M]` at `position [N]`, as `[N, 1]`."""
    return tf.gather(values, position, batch_dims=1)[:, None]


def new_table(gram: tf.Tensor, base: tf.Tensor, exact: bool) -> tuple[Number, tf.Tensor]:
    """`(table, is_base)` where only `base [N]` is swept; `exact` for a table of pairs."""
    is_base = tf.range(gram.shape[-1]) == base[:, None]
    row = tf.gather(gram, base, batch_dims=1)
    own = at(row, base)[..., None]

    table = minus(number(gram, exact), number(row[:, :, None], exact))
    table = plus(minus(table, number(row[:, None, :], exact)), number(own, exact))
    # The base gives what another takes.
    down, across = is_base[:, :, None], is_base[:, None, :]
    zero = tf.zeros([], gram.dtype)
    edges = number(tf.ones_like(gram), exact)
    table = tuple(
        tf.where(down & across, zero, tf.where(down | across, edge, part))
        for edge, part in zip(edges, table, strict=True)
    )
    return table, is_base


def sweep(
    table: Number,
    swept: tf.Tensor,
    free: tf.Tensor,
    active: tf.Tensor,
    norms: tf.Tensor,
    threshold: float,
) -> tuple[Number, tf.Tensor]:
    """Sweeps until `S` is the free teachers, but for those that depend on the others.

    Args:
        table, swept: `[N, M, M]` and `[N, M]`, from `new_table` or here.
        free: `[N, M]`, who is to be swept.
        active: `[N]`, which problems to touch.
        norms: `[N, M]`, what the diagonal of `H` was made of.
        threshold: of `norms`; a teacher with less curvature of its own beside `S` is dependent.

    Returns:
        `(table, swept)`.
    """
    dtype, index = norms.dtype, tf.range(norms.shape[-1])
    zero = tf.zeros([], dtype)
    one = number(tf.ones_like(norms[:, :1]), exact=len(table) == 2)

    def following(table, swept, count):
        """What the next sweep takes: `(k, row, scaled, edge, count)`; k = -1 where none is left."""
        diagonal = tf.linalg.diag_part(table[0])
        share = tf.math.divide_no_nan(diagonal, norms)
        enters = free & ~swept & (share > threshold)
        # The last has nobody to give to.
        leaves = swept & ~free & (diagonal < 0) & (count > 1)
        waiting = tf.where(leaves, dtype.max, tf.where(enters, share, zero))
        k = tf.argmax(waiting, -1, output_type=tf.int32)
        going, back = (at(waiting, k) > 0) & active[:, None], at(swept, k)
        row = tuple(tf.gather(part, k, batch_dims=1) for part in table)
        inverse = over(one, tuple(at(part, k) for part in row))
        scaled = normal(times(row, inverse))
        edge = tuple(
            tf.where(index == k[:, None], -corner, tf.where(back, -side, side))
            for side, corner in zip(scaled, inverse, strict=True)
        )
        count += tf.where(going, tf.where(back, -1, 1), 0)
        return tf.where(going[:, 0], k, -1), row, scaled, edge, count

    def step(table, swept, k, row, scaled, edge, count):
        is_k = index == k[:, None]
        down, across = is_k[:, :, None], is_k[:, None, :]
        product = times(
            tuple(part[:, :, None] for part in row), tuple(part[:, None, :] for part in scaled)
        )
        table = tuple(
            tf.where(
                (k >= 0)[:, None, None],
                tf.where(down, side[:, None, :], tf.where(across, side[:, :, None], new)),
                old,
            )
            for side, new, old in zip(edge, minus(table, product), table, strict=True)
        )
        swept = tf.math.logical_xor(swept, is_k)
        return table, swept, *following(table, swept, count)

    def unfinished(table, swept, k, row, scaled, edge, count):
        return tf.reduce_any(k >= 0)

    # Made a step ahead: XLA would fuse them into the table's update, once for each of its entries.
    count = tf.reduce_sum(tf.cast(swept, tf.int32), -1, True)
    state = (table, swept, *following(table, swept, count))
    return tf.while_loop(unfinished, step, state)[:2]
