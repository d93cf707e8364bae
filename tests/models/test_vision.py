"""A vision transformer: what is in a patch, where it stands, and what images it refuses."""

import copy
import pickle

import pytest
import torch

from attnkit.errors import OptionError, ShapeError
from attnkit.models import VisionTransformer
from tests.models import tiny


def model(**more):
    torch.manual_seed(1)
    sizes = {"image_size": 12, "patch_size": 4, "channels": 3} | more
    return tiny.moved(VisionTransformer(tiny.config(), **sizes))


def images(size=12, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, size, size, generator=generator, dtype=torch.float64)


def test_patches_are_squares_read_line_by_line():
    net, x = model(), images()
    squares = [x[:, :, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4] for r in range(3) for c in range(3)]
    weight = net.patch.weight.flatten(1)
    tokens = [square.flatten(1) @ weight.mT + net.patch.bias for square in squares]
    y = torch.stack([net.whole[0].expand(2, -1)[:, :24] if i < 0 else tokens[i] for i in range(-1, 9)], 1)
    y = y + net.position
    for block in net.blocks:
        y = block(y)
    torch.testing.assert_close(net.tokens(x), net.norm(y))


def test_the_whole_image_becomes_its_classes():
    net, x = model(num_classes=5), images()
    torch.testing.assert_close(net(x), net.classes(net.tokens(x)[:, 0]))
    assert net(x).shape == (2, 5)


def test_without_classes_it_gives_the_vector_of_the_whole():
    net, x = model(), images()
    assert torch.equal(net(x), net.tokens(x)[:, 0])


def test_every_pixel_is_read():
    net, x = model(), images()[:1].requires_grad_()
    (gradient,) = torch.autograd.grad(net(x).square().sum(), x)
    assert (gradient != 0).all()


def test_checkpointing_changes_no_gradient():
    net, x = model(), images()
    wanted = torch.autograd.grad(net.tokens(x).square().sum(), tuple(net.parameters()))
    net.checkpointing = True
    found = torch.autograd.grad(net.tokens(x).square().sum(), tuple(net.parameters()))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_copies_and_pickles_give_the_same():
    net, x = model(), images()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x))


@pytest.mark.messages
def test_patches_that_do_not_fill_an_image_are_refused():
    with pytest.raises(
        OptionError, match=r"patches of 5 pixels do not fill an image of 12\n  fix: .* divides 12"
    ):
        model(patch_size=5)


@pytest.mark.messages
def test_a_patch_of_no_pixel_is_refused():
    with pytest.raises(OptionError, match=r"VisionTransformer: patch_size is 1, 2, 3, ...; got 0"):
        model(patch_size=0)


@pytest.mark.messages
@pytest.mark.parametrize("x", [images(size=8), images(channels=1), images()[0]])
def test_images_of_another_size_are_refused(x):
    with pytest.raises(ShapeError, match=r"made for \(batch, 3, 12, 12\)\n  fix: one image is image\[None\]"):
        model()(x)
