import pytest
import torch

from digits import networks
from digits.networks import DigitCNN, DigitResNet


def test_default_network_is_small_and_gives_ten_logits() -> None:
    network = DigitCNN()
    assert sum(parameter.numel() for parameter in network.parameters()) <= 150_000
    for shape in ((3, 1, 40, 101), (1, 1, 64, 50)):
        assert network.eval()(torch.randn(shape)).shape == (shape[0], 10)


@pytest.mark.parametrize(("convolutions", "kernel", "n_layers"), [((1, 2, 2), 5, 5), ((1, 1, 1), 7, 3), ((2, 3, 1), 3, 6)])
def test_blocks_have_as_many_convolutions_as_asked(convolutions: tuple[int, ...], kernel: int, n_layers: int) -> None:
    network = DigitCNN(convolutions=convolutions, first_kernel=kernel)
    layers = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [layer.kernel_size for layer in layers] == [(kernel, kernel), *[(3, 3)] * (n_layers - 1)]
    assert [layer.stride for layer in layers] == [(2, 2), *[(1, 1)] * (n_layers - 1)]
    assert network.blocks.eval()(torch.randn(1, 1, 40, 101)).shape == (1, 64, 5, 12)


@pytest.mark.parametrize("n_mels", [32, 40, 41])
def test_residual_network_fits_any_number_of_bands(n_mels: int) -> None:
    network = DigitResNet(n_mels=n_mels).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) <= 300_000
    assert network(torch.randn(3, 1, n_mels, 101)).shape == (3, 10)


@pytest.mark.parametrize("kind", [DigitCNN, DigitResNet])
def test_one_output_more_knows_other_sounds(kind: type[torch.nn.Module]) -> None:
    assert kind(n_outputs=11).eval()(torch.randn(3, 1, 40, 101)).shape == (3, 11)
    for n_outputs in (9, 12):
        with pytest.raises(ValueError, match=rf'model\.n_outputs must be 10, or 11 with a "no digit" output, got {n_outputs}'):
            kind(n_outputs=n_outputs)


@pytest.mark.parametrize("kind", [DigitCNN, DigitResNet])
def test_gain_of_the_recording_does_not_matter(kind: type[torch.nn.Module]) -> None:
    network, log_mel = kind().eval(), 10 * torch.randn(4, 1, 40, 101)
    torch.testing.assert_close(network(log_mel), network(log_mel - 25), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", [DigitCNN, DigitResNet])
def test_a_constant_image_gives_finite_logits(kind: type[torch.nn.Module]) -> None:
    assert torch.isfinite(kind().eval()(torch.full((1, 1, 40, 101), -60.0))).all()


@pytest.mark.parametrize("kind", [DigitCNN, DigitResNet])
def test_it_can_learn_one_batch_by_heart(kind: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    network, log_mel, label = kind(dropout=0), torch.randn(30, 1, 40, 101), torch.arange(30) % 10
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(network(log_mel), label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert (network(log_mel).argmax(dim=1) == label).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "os.system"}, "model.name must be one of DigitCNN, DigitResNet, got os.system"),
        ({"name": "DigitCNN", "channels": [8, 16]}, "model.channels must be three numbers"),
        ({"name": "DigitCNN", "convolutions": [1, 0, 1]}, "model.convolutions must be three numbers above 0"),
        ({"name": "DigitCNN", "first_kernel": 4}, "model.first_kernel must be odd and above 0"),
        ({"name": "DigitResNet", "channels": [8, 16, 32]}, "model.channels must be four numbers"),
        ({"name": "DigitCNN", "dropout": 1.0}, "model.dropout"),
        ({"name": "DigitResNet", "dropout": -1}, "model.dropout"),
        ({"name": "DigitCNN", "depth": 4}, "depth"),
    ],
)
def test_impossible_networks_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        networks.build(**settings)
