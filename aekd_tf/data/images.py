"""Decodes images of any kind, and crops them for training and for evaluation."""

from __future__ import annotations

from typing import Any

# Side of the square center that evaluation sees, as a share of the shorter side.
_CENTER = 224 / 256


def decode(image: Any) -> Any:
    """Decodes JPEG, PNG, BMP or GIF to `uint8 [H, W, 3]`, also gray and CMYK images."""
    import tensorflow as tf

    image = tf.io.decode_image(image, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return image


def random_view(image: Any, key: Any, size: int, flip: bool = True) -> Any:
    """Crops at random 8 to 100% of the area, from 3:4 to 4:3, resizes and mirrors at random.

    Args:
        image: `uint8 [H, W, 3]`.
        key: two integers, which random view.
        size: height and width of the result.
        flip: whether half of the views are mirrored left to right.

    Returns:
        `float32 [size, size, 3]` from 0 to 255.
    """
    import tensorflow as tf

    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([1, 0, 4]),
        seed=key,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    cropped = tf.slice(image, begin, tf.concat([extent[:2], [3]], 0))
    view = tf.image.resize(cropped, (size, size), antialias=True)
    if flip:
        view = tf.image.stateless_random_flip_left_right(view, seed=tf.convert_to_tensor(key) + 1)
    return _in_range(view, size)


def center_view(image: Any, size: int) -> Any:
    """Crops the central square, 7/8 of the shorter side, and resizes it; from 0 to 255."""
    import tensorflow as tf

    shape = tf.shape(image)[:2]
    shorter = tf.cast(tf.reduce_min(shape), tf.float32)
    side = tf.maximum(tf.cast(tf.round(_CENTER * shorter), tf.int32), 1)
    top, left = tf.unstack((shape - side) // 2)
    cropped = tf.image.crop_to_bounding_box(image, top, left, side, side)
    return _in_range(tf.image.resize(cropped, (size, size), antialias=True), size)


def _in_range(image: Any, size: int) -> Any:
    import tensorflow as tf

    return tf.ensure_shape(tf.clip_by_value(image, 0.0, 255.0), [size, size, 3])
