"""What the report shows of the champion's mistakes."""

import base64
import io

from PIL import Image

from sweeptrail.fashion_mnist.data import CLASS_NAMES, Bytes, FashionMnist
from sweeptrail.fashion_mnist.evaluation import figures
from sweeptrail.fashion_mnist.evaluation.facts import Evaluation
from sweeptrail.fashion_mnist.evaluation.predictions import Predictions
from sweeptrail.results.report import plots
from sweeptrail.results.report.section import Picture, Section
from sweeptrail.results.report.tables import Table, number


def sections(data: FashionMnist, predictions: Predictions) -> tuple[Section, ...]:
    """Return the confusion matrix, the accuracy by class, and the most confident mistakes."""
    evaluation = Evaluation(data.test_images, data.test_labels, predictions)
    with plots.style():
        confusion, classes = figures.confusion_matrix(evaluation), figures.class_accuracy(evaluation)
        mistakes = plots.png(figures.mistakes(evaluation))
        return (
            Section(
                "confusion_matrix",
                "The champion's confusion matrix",
                "What the test images of each class were taken for; the stronger the colour, the larger the share.",
                svg=plots.svg(confusion),
                alternative=_about_confusion(evaluation),
                table=_confusion(evaluation),
                png=plots.png(confusion),
            ),
            Section(
                "class_accuracy",
                "The champion's accuracy by class",
                svg=plots.svg(classes),
                alternative=_about_classes(evaluation),
                table=_class_accuracies(evaluation),
                png=plots.png(classes),
            ),
            _mistakes(evaluation, mistakes),
        )


def _about_confusion(evaluation: Evaluation) -> str:
    count, is_, taken_for = evaluation.most_frequent_mistake
    return (
        "Confusion matrix of the ten classes on the test images. "
        f"The most frequent mistake: {count} images of class {is_} taken for {taken_for}."
    )


def _about_classes(evaluation: Evaluation) -> str:
    (first, highest), *_, (last, lowest) = evaluation.class_accuracies
    return (
        f"Share of the images of each class that were recognised: "
        f"from {first} with {highest:.1%} down to {last} with {lowest:.1%}."
    )


def _mistakes(evaluation: Evaluation, png: bytes) -> Section:
    chosen = evaluation.mistakes
    pictures = [Picture(_source(evaluation.images[index]), evaluation.sentence(index)) for index in chosen]
    note = "What the image is, what it was taken for, and how sure the network was." if chosen else "It made none."
    return Section("mistakes", "The champion's most confident mistakes", note, pictures=pictures, png=png)


def _confusion(evaluation: Evaluation) -> Table:
    """Return how many images of each class were taken for each class."""
    counts = evaluation.confusion.tolist()
    rows = [[name, *map(str, row)] for name, row in zip(CLASS_NAMES, counts, strict=True)]
    return Table(["true class \\ predicted", *CLASS_NAMES], rows)


def _class_accuracies(evaluation: Evaluation) -> Table:
    """Return the share of the images of each class that were recognised."""
    return Table(["class", "accuracy"], [[name, number(share)] for name, share in evaluation.class_accuracies])


def _source(image: Bytes) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
