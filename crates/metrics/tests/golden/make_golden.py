"""Make the golden file of the metrics crate: what scipy and scikit-learn compute.

Run from any folder: `python make_golden.py` (needs numpy, scipy, scikit-learn). All numbers are random and made here.

- `rank`: pairs with ties, Spearman's correlation (scipy's `spearmanr`) and its 95 % interval by scipy's `bootstrap`
  (paired, percentile, 20,000 samples);
- `pca`: vectors, more than they are long and fewer, with the points and shares of scikit-learn's `PCA` (full SVD).
"""

import json
import pathlib

import numpy
import scipy
import sklearn
from scipy.stats import bootstrap, spearmanr
from sklearn.decomposition import PCA


def rank(rng):
    a = rng.normal(size=40).round(1)
    b = (0.6 * a + rng.normal(size=40)).round(0)
    found = bootstrap((a, b), lambda a, b: spearmanr(a, b).statistic, paired=True, vectorized=False,
                      method="percentile", n_resamples=20_000, rng=rng)
    interval = [float(found.confidence_interval.low), float(found.confidence_interval.high)]
    return {"a": a.tolist(), "b": b.tolist(), "spearman": float(spearmanr(a, b).statistic), "interval": interval}


def pca(rng, n, width):
    scales = 1 / numpy.arange(1, width + 1) ** 0.3
    vectors = (rng.normal(size=(n, width)) * scales + 3).round(3)
    fitted = PCA(2, svd_solver="full")
    points = fitted.fit_transform(vectors)
    return {"vectors": vectors.tolist(), "points": points.tolist(), "shares": fitted.explained_variance_ratio_.tolist()}


if __name__ == "__main__":
    rng = numpy.random.default_rng(3)
    expected = {
        "versions": {"numpy": numpy.__version__, "scipy": scipy.__version__, "sklearn": sklearn.__version__},
        "rank": rank(rng),
        "pca": [pca(rng, 40, 9), pca(rng, 7, 33)],
    }
    (pathlib.Path(__file__).parent / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")
