"""The program's augmentation, for a whole batch at once: flips, shifts by whole pixels, rotation, shear, zoom, random erasing.

Every image draws its own numbers from the same distributions as in the program; the numbers themselves are others.
"""

import math

import torch

ERASING_ATTEMPTS = 10


def augment(images, settings):
    """A random variant of each image; bytes `[N, H, W, C]` in and out."""
    images = affine(images, settings)
    if settings["erasing"]["probability"] > 0.0:
        images = erase(images, settings["erasing"])
    return images


def affine(images, settings):
    count, height, width, _ = images.shape
    flip_x = torch.rand(count) < settings["horizontal_flip"]
    flip_y = torch.rand(count) < settings["vertical_flip"]
    shift_x = whole_pixels(count, settings["shift_x"], width)
    shift_y = whole_pixels(count, settings["shift_y"], height)
    rotation = uniform(count, -settings["rotation_degrees"], settings["rotation_degrees"]) * (math.pi / 180.0)
    shear = uniform(count, -settings["shear_degrees"], settings["shear_degrees"]) * (math.pi / 180.0)
    zoom = uniform(count, *settings["zoom"])
    fill = settings["fill"]

    if settings["rotation_degrees"] == 0.0 and settings["shear_degrees"] == 0.0 and list(settings["zoom"]) == [1.0, 1.0]:
        x = (torch.arange(width) - shift_x[:, None]).expand(count, width)
        y = (torch.arange(height) - shift_y[:, None]).expand(count, height)
        x = torch.where(flip_x[:, None], width - 1 - x, x)[:, None, :].expand(count, height, width)
        y = torch.where(flip_y[:, None], height - 1 - y, y)[:, :, None].expand(count, height, width)
        return take(images, x, y, fill)

    # in = F⁻¹·Z⁻¹·S⁻¹·R⁻¹·(out − centre − shift) + centre, read bilinearly.
    sin, cos, lean = rotation.sin(), rotation.cos(), shear.tan()
    scale_x = torch.where(flip_x, -1.0, 1.0) / zoom
    scale_y = torch.where(flip_y, -1.0, 1.0) / zoom
    centre_x, centre_y = (width - 1.0) / 2.0, (height - 1.0) / 2.0
    dx = (torch.arange(width) - centre_x - shift_x[:, None])[:, None, :]
    dy = (torch.arange(height) - centre_y - shift_y[:, None])[:, :, None]
    each = lambda values: values[:, None, None]  # noqa: E731
    x = each(scale_x * (cos + lean * sin)) * dx + each(scale_x * (sin - lean * cos)) * dy + centre_x
    y = each(scale_y * -sin) * dx + each(scale_y * cos) * dy + centre_y
    left, top = x.floor(), y.floor()
    right_weight, bottom_weight = (x - left)[..., None], (y - top)[..., None]
    left, top = left.long(), top.long()
    above = take(images, left, top, fill) * (1.0 - right_weight) + take(images, left + 1, top, fill) * right_weight
    below = take(images, left, top + 1, fill) * (1.0 - right_weight) + take(images, left + 1, top + 1, fill) * right_weight
    return (above * (1.0 - bottom_weight) + below * bottom_weight + 0.5).clamp(0.0, 255.0).to(torch.uint8)


def take(images, x, y, fill):
    """`images[n, y, x]` for each place of x and y `[N, H, W]`; beyond the border the nearest pixel or a constant."""
    count, height, width, channels = images.shape
    places = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    places = places.reshape(count, -1, 1).expand(-1, -1, channels)
    taken = images.reshape(count, -1, channels).gather(1, places).reshape(images.shape)
    if fill == "edge":
        return taken
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    return taken.masked_fill(outside[..., None], fill["constant"])


def erase(images, settings):
    """Overwrites a rectangle in some of the images: the first of a few drawn that is smaller than the image on both sides."""
    count, height, width, _ = images.shape
    draws = (count, ERASING_ATTEMPTS)
    area = uniform(draws, *settings["area"]) * (height * width)
    aspect = uniform(draws, *(math.log(value) for value in settings["aspect"])).exp()
    heights = (area * aspect).sqrt().add(0.5).floor().long()
    widths = (area / aspect).sqrt().add(0.5).floor().long()
    fits = (heights >= 1) & (heights < height) & (widths >= 1) & (widths < width)
    first = fits.int().argmax(dim=1, keepdim=True)
    erased = (torch.rand(count) < settings["probability"]) & fits.any(dim=1)
    box_height, box_width = heights.gather(1, first), widths.gather(1, first)
    top = (torch.rand(count, 1) * (height - box_height + 1)).floor()
    left = (torch.rand(count, 1) * (width - box_width + 1)).floor()
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows = (rows >= top) & (rows < top + box_height)
    in_columns = (columns >= left) & (columns < left + box_width)
    box = in_rows[:, :, None] & in_columns[:, None, :] & erased[:, None, None]
    if settings["fill"] == "noise":
        filling = torch.randint(0, 256, images.shape, dtype=torch.uint8)
    else:
        filling = torch.full_like(images, settings["fill"]["constant"])
    return torch.where(box[..., None], filling, images)


def whole_pixels(count, fraction, side):
    most = math.floor(fraction * side + 0.5)
    return torch.randint(-most, most + 1, (count,))


def uniform(shape, low, high):
    return low + (high - low) * torch.rand(shape)
