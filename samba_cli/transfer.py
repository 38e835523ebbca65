"""Tensors on their way between host and device, without waiting for what runs there."""

from __future__ import annotations

import torch


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on the device."""
    if device.type != "cuda" or not tensor.numel():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Copied:
    """A tensor on its way to the host: what the device is asked later is not waited for."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.event = torch.cuda.Event() if tensor.is_cuda else None
        self.host = tensor.to("cpu", non_blocking=self.event is not None)
        if self.event is not None:
            self.event.record(torch.cuda.current_stream(tensor.device))

    def values(self) -> list[float]:
        if self.event is not None:
            self.event.synchronize()
        return self.host.tolist()
