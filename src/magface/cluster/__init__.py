"""Groups of faces: who is the same person, without anybody's name.

Every algorithm takes raw embeddings and gives `(N,)` int64 numbers by `numbering.numbered`, `UNKNOWN` for a face of no
group; `group` runs one by its name. Each knows two weightings: directions alone, or quality-aware by magnitude.
"""

from magface.cluster.algorithms import ALGORITHMS as ALGORITHMS
from magface.cluster.algorithms import group as group
from magface.cluster.attachment import attach as attach
from magface.cluster.attachment import reliable_first as reliable_first
from magface.cluster.density import dbscan as dbscan
from magface.cluster.density import hdbscan as hdbscan
from magface.cluster.kmeans import kmeans as kmeans
from magface.cluster.linkage import average_linkage as average_linkage
from magface.cluster.numbering import UNKNOWN as UNKNOWN
from magface.cluster.representatives import representative as representative
from magface.cluster.weighting import Weighting as Weighting
