"""Groups of faces: who is the same person, without anybody's name."""

from magface.cluster.linkage import average_linkage as average_linkage
from magface.cluster.numbering import UNKNOWN as UNKNOWN
