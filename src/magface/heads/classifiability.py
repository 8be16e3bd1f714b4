"""The head that knows how classifiable each face is, and teaches that to the magnitude.

Shape letters: B faces of the batch, C classes, D embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from magface.heads.full import HeadOutput, check_labels, direction
from magface.losses.crfiqa import CrFiqa, certainty_ratio


class Classifiability(nn.Module):
    """Class centres that stay, and CR-FIQA; works in float32 or wider, outside autocast.

    Args:
        centres: `(C, D)` float, unit vectors; C >= 2.
        loss: what compares a magnitude with a certainty ratio.

    Raises:
        ValueError: there are fewer than two classes.

    Example:
        >>> head = Classifiability(torch.eye(2), CrFiqa(unit=10))
        >>> out = head(torch.tensor([[8.0, 6.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
        >>> out.cosine, out.loss  # ratio 0.8 / 1.6, magnitude 10
        (tensor([0.8000]), tensor(0.2500))
    """

    centres: Tensor

    def __init__(self, centres: Tensor, loss: CrFiqa) -> None:
        super().__init__()
        if len(centres) < 2:
            raise ValueError(f"a nearest other class needs at least two classes, not {len(centres)}.")
        self.loss = loss
        self.register_buffer("centres", centres)

    def forward(self, embeddings: Tensor, own: Tensor, labels: Tensor) -> HeadOutput:
        """Loss of `(B, D)` raw embeddings, and whether each is nearer to its own centre than to all others.

        Args:
            embeddings: of the faces.
            own: `(B, D)` unit vectors, the centre of each face's person.
            labels: `(B,)` int64 within 0..C-1, the row of `centres` that is left out.

        Raises:
            ValueError: a label is outside 0..C-1.
        """
        check_labels(labels, len(self.centres))
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            magnitude, unit = torch.linalg.vector_norm(x, dim=1), direction(x.detach())
            cosine = (unit * own.to(x.dtype)).sum(1)
            others = (unit @ self.centres.to(x.dtype).T).scatter(1, labels[:, None], -torch.inf)
            nearest = others.amax(1)
            loss = self.loss(magnitude, certainty_ratio(cosine, nearest)).mean()
        return HeadOutput(loss, loss, loss.new_zeros(()), cosine, magnitude.detach(), cosine >= nearest)
