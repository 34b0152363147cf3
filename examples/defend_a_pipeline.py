"""Put a defense into a scikit-learn pipeline, and see what label flips cost with it and without it; seconds on a CPU.

python examples/defend_a_pipeline.py
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mithridate.integrations.sklearn import DefendedClassifier


def main() -> None:
    """Flip a fifth of the labels, by pairs of digits; fit with and without the defense."""
    rows, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(rows, labels, test_size=0.4, random_state=0)
    flipped = np.random.default_rng(0).random(len(y_train)) < 0.2
    poisoned = np.where(flipped, (y_train + 5) % 10, y_train)
    plain = make_pipeline(StandardScaler(), SVC(C=100.0))
    defended = make_pipeline(StandardScaler(), DefendedClassifier(SVC(C=100.0), defense="label-sanitisation"))
    print(f"clean labels            {plain.fit(x_train, y_train).score(x_test, y_test):.3f}")
    print(f"flipped                 {plain.fit(x_train, poisoned).score(x_test, y_test):.3f}")
    print(f"flipped, defended       {defended.fit(x_train, poisoned).score(x_test, y_test):.3f}")
    print(f"clean, defended         {defended.fit(x_train, y_train).score(x_test, y_test):.3f}")
    found = defended.fit(x_train, poisoned)[-1].relabelled_
    print(f"{(found & flipped).sum()} of {flipped.sum()} flips found, {(found & ~flipped).sum()} right labels changed")


if __name__ == "__main__":
    main()
