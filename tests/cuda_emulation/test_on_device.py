"""What stands in for the emulated operators on a GPU calls the real ones there and brings the results back."""

import torch

from cuda_emulation.on_device import OnDevice


def test_tensors_go_to_the_device_and_results_come_back(monkeypatch) -> None:
    seen: list[str] = []

    class Registered:
        def one(self, tensors: list, number: int) -> tuple:
            seen.extend(x.device.type for x in tensors)
            return tensors[0], [tensors[0].new_ones(()), number]

    monkeypatch.setattr(torch.ops, "cascadezoo", Registered(), raising=False)
    first, (other, number) = OnDevice("cpu").one([torch.ones(2), torch.ones(3)], 7)
    assert seen == ["cpu", "cpu"]
    assert (first.tolist(), other.item(), number) == ([1, 1], 1, 7)
    sent: list[str] = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: sent.append(device) or self)
    OnDevice("cuda").one([torch.ones(2)], 7)
    assert sent == ["cuda"]
