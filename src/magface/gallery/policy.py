"""Who may be enrolled: what is refused, what is marked, and what each face comes to."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

from magface.data.audit import COPY
from magface.errors import DataError
from magface.quality.verdict import ACCEPT, RETAKE


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens to faces that are enrolled; kept in the gallery.

    A face that is there already, the same vector or a copy in the same box of the same picture, is never added twice,
    so a run that was stopped can be run again.

    Attributes:
        refuse: a face of a lower score is not enrolled, 0 to 100.
        mark: a face of a lower score is enrolled and marked for a look by a person, `refuse` to 100.
        copy: cosine from which two faces count as copies of one picture, or of one moment; they are reported.
        fpir: share of right enrolments that may be reported as nearer to somebody else, between 0 and 1.

    Raises:
        DataError: a number is out of range.

    Example:
        >>> Policy(refuse=50).verdict(40)
        'the score 40 is below 50: take another picture.'
    """

    refuse: float = RETAKE
    mark: float = ACCEPT
    copy: float = COPY
    fpir: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.refuse <= self.mark <= 100:
            raise DataError(
                f"faces are refused below a score of {self.refuse:g} and marked below {self.mark:g}; both must be "
                "0 to 100, and the first not above the second."
            )
        if not 0 < self.copy <= 1:
            raise DataError(f"the cosine of copies lies between 0 and 1; {self.copy:g} does not.")
        if not 0 < self.fpir < 1:
            raise DataError(f"the false positive identification rate must lie between 0 and 1; {self.fpir:g} does not.")

    def verdict(self, score: float) -> str:
        """Why a face of that score is refused; "" for one that is enrolled."""
        return "" if score >= self.refuse else f"the score {score:.0f} is below {self.refuse:g}: take another picture."

    def to_json(self) -> str:
        """As it is kept in a gallery."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Policy:
        """Policy of a text that `to_json` made; that of every new gallery for "".

        Raises:
            DataError: the text is another.

        Example:
            >>> Policy.from_json(Policy(mark=80).to_json()).mark
            80
        """
        if not text:
            return Policy()
        try:
            return Policy(**json.loads(text))
        except (TypeError, ValueError, RecursionError) as error:
            raise DataError("the policy in the gallery cannot be read; set one with `Gallery.policy`.") from error


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a face came to that was to be enrolled.

    Attributes:
        person: whose face it is said to be.
        face: id of the face, or of the one that was there already; None where it was refused.
        refused: why, in a sentence; "" where it was not.
        marked: whether its quality asks for a look by a person.
        present: it was there already, and nothing was added.
        copy: id of a face of the person that shows the same picture, or moment; None where there is none, or where
            nothing was checked.
        own: cosine to the other faces of the person, without copies; NaN where there are none, or nothing was checked.
        nearer: somebody else whom the face is nearer to, and near enough to be them: the label is likely wrong, or one
            person is enrolled twice; "" where there is nobody.
        other: cosine to them; NaN where there is nobody.
    """

    person: str
    face: int | None
    refused: str = ""
    marked: bool = False
    present: bool = False
    copy: int | None = None
    own: float = math.nan
    nearer: str = ""
    other: float = math.nan

    @property
    def added(self) -> bool:
        """Whether the face is new in the gallery."""
        return self.face is not None and not self.present
