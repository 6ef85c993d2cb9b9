"""Which input the published EfficientNet-Lite weights want, by what a linear classifier makes of their features.

    python3 scripts/compare/backbone_probe.py PHOTOS [--backbone efficientnet-lite0] [--tee t-shirt]

PHOTOS holds `train` and `validation`, each with one folder a class. For each normalisation, and for each way to bring a photo to
the model's square: accuracy of a logistic regression on frozen features, on `validation` and by 5-fold cross-validation on `train`,
and the share of photos of the class --tee whose likeliest ImageNet class is 610, "jersey, T-shirt".
"""

import argparse
import pathlib

import numpy
import PIL.Image
import PIL.ImageOps
import sklearn.linear_model
import sklearn.model_selection
import sklearn.pipeline
import sklearn.preprocessing

import backbone_reference

BATCH = 64
JERSEY = 610
# Inverse strength of the regularisation; the better one by cross-validation on `train` is taken.
STRENGTHS = [0.001, 0.01]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("--backbone", choices=backbone_reference.NAMES, default=backbone_reference.NAMES[0])
    parser.add_argument("--fits", nargs="+", choices=FITS, default=list(FITS))
    parser.add_argument("--normalisations", nargs="+", choices=backbone_reference.NORMALISATIONS,
                        default=list(backbone_reference.NORMALISATIONS))
    parser.add_argument("--tee", metavar="CLASS", default="t-shirt")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    model, side = backbone_reference.load(arguments.backbone)
    session = backbone_reference.features_session(model, side, arguments.threads)
    # [1280, 1000] and [1000].
    classifier = [model._fc.weight.detach().numpy().T, model._fc.bias.detach().numpy()]
    splits = {split: photos(arguments.photos / split) for split in ["train", "validation"]}
    for fit in arguments.fits:
        # One pass over the photos serves all normalisations.
        found = {split: look(session, classifier, side, files, fit, arguments.normalisations)
                 for split, (files, _) in splits.items()}
        for normalisation in arguments.normalisations:
            train, validation = (found[split][normalisation] for split in ["train", "validation"])
            strength, folds, accuracy = probe(train[0], splits["train"][1], validation[0], splits["validation"][1])
            top = numpy.concatenate([train[1], validation[1]])
            labels = numpy.concatenate([splits["train"][1], splits["validation"][1]])
            share = (top[labels == arguments.tee] == JERSEY).mean()
            print(f"{arguments.backbone} {fit:8} {normalisation:12} validation {accuracy:.4f}  "
                  f"folds of train {folds:.4f} (C {strength})  {arguments.tee} as {JERSEY} {share:.3f}", flush=True)


def photos(folder):
    """The files under a folder, and their classes."""
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    if not files:
        raise SystemExit(f"{folder} has no files in folders of classes")
    return files, numpy.array([path.parent.name for path in files])


def look(session, classifier, side, files, fit, normalisations):
    """Features and likeliest class of each photo, for each normalisation."""
    found = {normalisation: ([], []) for normalisation in normalisations}
    for start in range(0, len(files), BATCH):
        images = numpy.stack([decode(path, side, fit) for path in files[start : start + BATCH]])
        for normalisation, (features, top) in found.items():
            normalised = backbone_reference.normalise(images, normalisation).numpy()
            (batch,) = session.run(["features"], {"images": normalised})
            features.append(batch)
            top.append((batch @ classifier[0] + classifier[1]).argmax(axis=1))
    return {name: (numpy.concatenate(features), numpy.concatenate(top)) for name, (features, top) in found.items()}


def decode(path, side, fit):
    with PIL.Image.open(path) as image:
        image = PIL.ImageOps.exif_transpose(image).convert("RGB")
    return numpy.asarray(FITS[fit](image, (side, side)))


def stretch(image, size):
    return image.resize(size, PIL.Image.Resampling.BILINEAR)


def pad(image, size):
    return PIL.ImageOps.pad(image, size, PIL.Image.Resampling.BILINEAR, color="white")


def crop(image, size):
    return PIL.ImageOps.fit(image, size, PIL.Image.Resampling.BILINEAR)


FITS = {"stretch": stretch, "pad": pad, "crop": crop}


def probe(features, labels, other_features, other_labels):
    """The chosen strength, its accuracy over five folds of the features, and its accuracy on the others."""
    def classifier(strength):
        return sklearn.pipeline.make_pipeline(
            sklearn.preprocessing.StandardScaler(),
            sklearn.linear_model.LogisticRegression(C=strength, max_iter=1000))

    folds = sklearn.model_selection.StratifiedKFold(5, shuffle=True, random_state=0)
    scores = {strength: sklearn.model_selection.cross_val_score(classifier(strength), features, labels, cv=folds).mean()
              for strength in STRENGTHS}
    strength = max(scores, key=scores.get)
    accuracy = classifier(strength).fit(features, labels).score(other_features, other_labels)
    return strength, scores[strength], accuracy


if __name__ == "__main__":
    main()
