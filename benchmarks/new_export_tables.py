"""The estimators for tables that ``new_exports`` exports.

Belongs here: fitting and converting what scikit-learn, LightGBM and XGBoost have. Not here: networks
(``new_export_networks``), explaining, counting (``new_exports``).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.architecture import Architecture


def _rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 6)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64)


def tables() -> Iterator[Architecture]:
    """All of them, whether their packages are installed or not."""

    def converted(fit: Callable[[], Any], how: str) -> tuple[Any, dict[str, Any]]:
        x, y = _rows()
        model = fit().fit(x, y)
        if how == "sklearn":
            from skl2onnx import to_onnx

            options = {"zipmap": False} if hasattr(model, "predict_proba") else None
            return to_onnx(model, x[:1], target_opset=17, options=options).SerializeToString(), {"X": x[:1]}
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

        convert = getattr(onnxmltools, f"convert_{how}")
        types = [("X", FloatTensorType([None, x.shape[1]]))]
        return convert(model, initial_types=types, target_opset=15).SerializeToString(), {"X": x[:1]}

    def by(package: str, name: str, how: str, fit: Callable[[], Any]) -> Architecture:
        return Architecture(package, name, "table", lambda: converted(fit, how))

    for name, fit in _SKLEARN.items():
        yield by("scikit-learn", name, "sklearn", fit)
    yield by("lightgbm", "LGBMClassifier", "lightgbm", _lightgbm)
    yield by("xgboost", "XGBClassifier", "xgboost", _xgboost)


def _estimator(path: str, **settings: Any) -> Callable[[], Any]:
    module, _, name = path.rpartition(".")
    return lambda: getattr(importlib.import_module(f"sklearn.{module}"), name)(**settings)


def _chain(*parts: Callable[[], Any]) -> Callable[[], Any]:
    def make() -> Any:
        from sklearn.pipeline import make_pipeline

        return make_pipeline(*[part() for part in parts])

    return make


_SKLEARN: dict[str, Callable[[], Any]] = {
    "LogisticRegression": _estimator("linear_model.LogisticRegression"), "Ridge": _estimator("linear_model.Ridge"),
    "MLPClassifier": _estimator("neural_network.MLPClassifier", hidden_layer_sizes=(8,), max_iter=30),
    "SVC": _estimator("svm.SVC", probability=False), "SVR": _estimator("svm.SVR"),
    "LinearSVC": _estimator("svm.LinearSVC"), "GaussianNB": _estimator("naive_bayes.GaussianNB"),
    "KNeighborsClassifier": _estimator("neighbors.KNeighborsClassifier"),
    "DecisionTreeClassifier": _estimator("tree.DecisionTreeClassifier", max_depth=4),
    "RandomForestClassifier": _estimator("ensemble.RandomForestClassifier", n_estimators=5, max_depth=4),
    "GradientBoostingClassifier": _estimator("ensemble.GradientBoostingClassifier", n_estimators=5),
    "StandardScaler, PCA, LogisticRegression": _chain(
        _estimator("preprocessing.StandardScaler"), _estimator("decomposition.PCA", n_components=4),
        _estimator("linear_model.LogisticRegression")),
    "MinMaxScaler, PolynomialFeatures, Ridge": _chain(
        _estimator("preprocessing.MinMaxScaler"), _estimator("preprocessing.PolynomialFeatures"),
        _estimator("linear_model.Ridge")),
    "QuadraticDiscriminantAnalysis": _estimator("discriminant_analysis.QuadraticDiscriminantAnalysis"),
    "GaussianProcessRegressor": _estimator("gaussian_process.GaussianProcessRegressor"),
}  # fmt: skip


def _lightgbm() -> Any:
    import lightgbm

    return lightgbm.LGBMClassifier(n_estimators=5, verbose=-1)


def _xgboost() -> Any:
    import xgboost

    return xgboost.XGBClassifier(n_estimators=5)
