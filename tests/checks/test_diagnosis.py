"""At most one fault is planted in each detector, and a diagnosis passes only if it is right for every detector."""

import numpy as np
import pytest

import rcnn
from rcnn import boxes, data
from rcnn.checks import CheckFailed, diagnosis
from rcnn.checks.diagnosis import NAMES, PAGES, PLANTED, SOUND


@pytest.fixture(autouse=True)
def one_thread():
    with rcnn.set_num_threads(1):  # the pages are too small for two threads
        yield


@pytest.fixture(scope="module")
def planted():
    """Return (model, pages) per fault name, all with the same pages."""
    return {name: plant(np.random.default_rng(3)) for name, plant in PLANTED.items()}


def diagnose(patient):
    """Return the fault of a detector, found from its settings and its detections."""
    trace = patient.model.trace([image for image, _ in patient.pages])
    if not 0.1 < trace.batch.std() < 10:
        return "wrong normalisation"
    if patient.model.config.anchor_sizes[0] > 30:
        return "large anchors"
    if not all(parameter.requires_grad for parameter in patient.model.parameters()):
        return "untrained head"
    pairs = [(found, target) for found, (_, target) in zip(trace.outputs, patient.pages, strict=True)]
    if share_found(pairs) < 0.5:
        turned = [(found, {"boxes": target["boxes"][:, [1, 0, 3, 2]]}) for found, target in pairs]
        return "swapped axes" if share_found(turned) > 0.5 else "shuffled boxes"
    return "labels from 0" if any((target["labels"] == 0).any() for _, target in pairs) else SOUND


def share_found(pairs):
    best = [boxes.iou(found["boxes"], target["boxes"]).max(axis=0, initial=0) for found, target in pairs]
    return (np.concatenate(best) >= 0.5).mean()


def test_a_right_diagnosis_passes_on_any_ward():
    for seed in (None, 0):
        assert diagnosis.check(diagnose, seed=seed) is None


@pytest.mark.parametrize("fault", NAMES)
def test_a_diagnosis_with_one_mistake_is_rejected_with_its_hint(fault):
    other = next(name for name in NAMES if name != fault)

    def mistaken(patient):
        answer = diagnose(patient)
        return other if answer == fault else answer

    with pytest.raises(CheckFailed, match=f"your function returns '{other}', which is wrong\nHint: ") as failed:
        diagnosis.check(mistaken, seed=2)
    assert diagnosis.HINTS[fault] in str(failed.value)
    assert f"'{fault}'" not in str(failed.value)


@pytest.mark.parametrize("answer", [None, "healthy", 3, ["sound"]])
def test_an_unknown_fault_name_is_rejected(answer):
    with pytest.raises(
        CheckFailed, match="detector A: your function returns .* must be one of 'sound', 'swapped axes'"
    ):
        diagnosis.check(lambda patient: answer)


def test_a_result_instead_of_a_function_is_an_error():
    for check in (diagnosis.check, diagnosis.check_recalls):
        with pytest.raises(TypeError, match=f"diagnosis.{check.__name__} takes a function.*without calling it"):
            check("sound")


def unwritten(*_):
    raise NotImplementedError


def takes_the_maximum_of_an_empty_array(patient):
    return str(np.zeros(0).argmax())


def swaps_in_place(patient):
    for _, target in patient.pages:
        target["boxes"] = target["boxes"][:, [1, 0, 3, 2]]
    return SOUND


@pytest.mark.parametrize(
    "function, message",
    [
        (
            unwritten,
            "^diagnosis: your function, or one that it calls, is not written yet.*\nHint: Begin with",
        ),
        (
            takes_the_maximum_of_an_empty_array,
            "^detector A: your function raises ValueError: .*empty.*\nHint: Some pages",
        ),
        (swaps_in_place, "^detector A: your function changes the annotations\nHint: Work on a copy"),
    ],
)
def test_a_diagnosis_that_raises_or_changes_annotations_is_rejected(function, message):
    with pytest.raises(CheckFailed, match=message):
        diagnosis.check(function, seed=1)


def test_a_ward_has_each_fault_once_in_random_order():
    names = []
    for ward in (diagnosis.ward(0), diagnosis.ward(1)):
        assert [patient.name for patient in ward] == list("ABCDEFG")
        assert all(len(patient.pages) == PAGES for patient in ward)
        names.append([diagnose(patient) for patient in ward])
        assert sorted(names[-1]) == sorted(NAMES)
    assert names[0] != names[1]
    assert diagnose(diagnosis.reference(0)) == SOUND


def test_a_ward_is_the_same_for_the_same_seed():
    one, same = diagnosis.ward(5), diagnosis.ward(5)
    for patient, again in zip(one, same, strict=True):
        assert (patient.pages[0][0] == again.pages[0][0]).all()
        assert all(
            (a.data == b.data).all() for a, b in zip(patient.model.parameters(), again.model.parameters(), strict=True)
        )


def test_annotation_faults_match_their_names(planted):
    right = [target for _, target in planted[SOUND][1]]
    for (_, wrong), target in zip(planted["swapped axes"][1], right, strict=True):
        np.testing.assert_array_equal(wrong["boxes"][:, [1, 0, 3, 2]], target["boxes"])
        np.testing.assert_array_equal(wrong["labels"], target["labels"])
    for (_, wrong), target in zip(planted["labels from 0"][1], right, strict=True):
        np.testing.assert_array_equal(wrong["labels"], target["labels"] - 1)
        np.testing.assert_array_equal(wrong["boxes"], target["boxes"])
    shuffled = [target for _, target in planted["shuffled boxes"][1]]
    by = [
        i
        for i in range(PAGES)
        if shuffled[0]["boxes"] is right[i]["boxes"] or np.array_equal(shuffled[0]["boxes"], right[i]["boxes"])
    ]
    assert len(by) == 1 and by[0] > 0
    for i in range(PAGES):
        np.testing.assert_array_equal(shuffled[i]["boxes"], right[(i + by[0]) % PAGES]["boxes"])


def test_detector_faults_change_nothing_else(planted):
    sound = planted[SOUND][0].state_dict()
    for name in ("large anchors", "wrong normalisation"):
        assert all((array == sound[key]).all() for key, array in planted[name][0].state_dict().items())
    assert planted["large anchors"][0].config.anchor_sizes == (56, 96, 160)
    assert planted["wrong normalisation"][0].config.settings() != planted[SOUND][0].config.settings()
    head, frozen = planted["untrained head"][0], set()
    for name, parameter in head.named_parameters():
        if not parameter.requires_grad:
            frozen.add(name)
        assert name.startswith("roi_heads.") or (parameter.data == sound[name]).all()
    assert frozen == {name for name in sound if name.startswith("roi_heads.")}
    assert not (head.roi_heads.box_head.fc6.weight.data == sound["roi_heads.box_head.fc6.weight"]).any()


def test_pages_are_unseen_and_contain_objects(planted):
    for model, pages in planted.values():
        assert pages.classes == data.Digits.classes == model.config.class_names
        assert all(len(target["boxes"]) >= 2 for _, target in pages)
    unseen = data.Digits(1, split="val", seed=int(np.random.default_rng(3).integers(1, 2**31)))
    assert any((unseen[0][0] == image).all() for image, _ in planted[SOUND][1])


# ---------------------------------------------------------------------- recall after undoing a fault


def best_of_each(found, wanted, axis=0):
    return [boxes.iou(f, w).max(axis=axis, initial=0) for f, w in zip(found, wanted, strict=True)]


def share(found, wanted, least=0.5):
    return (np.concatenate(best_of_each(found, wanted)) >= least).mean()


def turned(wanted, order=(1, 0, 3, 2)):
    return [page[:, list(order)] for page in wanted]


def moved(wanted, by):
    return [wanted[(i + by) % len(wanted)] for i in range(len(wanted))]


def with_each(found, wanted, share=share, order=(1, 0, 3, 2), moves=lambda n: range(1, n)):
    return (
        share(found, wanted),
        share(found, turned(wanted, order)),
        max(share(found, moved(wanted, by)) for by in moves(len(wanted))),
    )


def by_loops(found, wanted):
    """Compute the three recalls by counting; move the detected pages instead of the annotated ones."""

    def recall(found, wanted):
        hits = [
            any(boxes.iou(page[i : i + 1], one[None])[0, 0] >= 0.5 for i in range(len(page)))
            for page, objects in zip(found, wanted, strict=True)
            for one in objects
        ]
        return sum(hits) / len(hits)

    back = [np.roll(np.arange(len(found)), by) for by in range(1, len(found))]
    return [
        recall(found, wanted),
        recall(found, [page[:, (1, 0, 3, 2)] for page in wanted]),
        max(recall([found[i] for i in order], wanted) for order in back),
    ]


def mean_of_pages(found, wanted):
    return np.mean([(best >= 0.5).mean() for best in best_of_each(found, wanted) if len(best)])


def of_pages_with_boxes(found, wanted):
    pairs = [(f, w) for f, w in zip(found, wanted, strict=True) if len(f)]
    return share(*zip(*pairs, strict=True)) if pairs else 0.0


def precision(found, wanted):
    return (np.concatenate(best_of_each(found, wanted, axis=1)) >= 0.5).mean()


def above(found, wanted):
    return share(found, wanted, least=0.5 + 1e-9)


def best_page_each(found, wanted):
    best = [
        max((share([f], [w]) for j, w in enumerate(wanted) if j != i and len(w)), default=0)
        for i, f in enumerate(found)
    ]
    return *with_each(found, wanted)[:2], np.mean(best)


def swaps_its_arguments_in_place(found, wanted):
    result = with_each(found, wanted)
    for page in wanted:
        page[:] = page[:, [1, 0, 3, 2]]
    return result


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("function", [with_each, by_loops])
def test_right_recalls_pass(function, seed):
    assert diagnosis.check_recalls(function, seed=seed) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "function, hint",
    [
        (unwritten, "recalls: your function is not written yet"),
        (lambda found, wanted: with_each(found, wanted)[0], "must return a tuple of 3 values"),
        (lambda found, wanted: with_each(found, wanted, share=above), "0.5 is enough"),
        (
            lambda found, wanted: with_each(found, wanted, share=lambda f, w: share(f, w, 0.45)),
            "below 0.5 is not enough",
        ),
        (lambda found, wanted: with_each(found, wanted, share=mean_of_pages), "All objects of all pages count equally"),
        (
            lambda found, wanted: with_each(found, wanted, share=of_pages_with_boxes),
            "All objects of all pages count equally",
        ),
        (
            lambda found, wanted: with_each(found, wanted, share=precision),
            "a detected box for each object|count equally",
        ),
        (lambda found, wanted: with_each(found, wanted, order=(2, 3, 0, 1)), "For the second number"),
        (lambda found, wanted: with_each(found, wanted, order=(0, 1, 2, 3)), "two other interpretations"),
        (lambda found, wanted: with_each(found, wanted, moves=range), "two other interpretations"),
        (lambda found, wanted: with_each(found, wanted, moves=lambda n: [1]), "try every k"),
        (lambda found, wanted: with_each(found, wanted, moves=lambda n: range(1, max(n - 1, 2))), "try every k"),
        (best_page_each, "with the same k"),
        (swaps_its_arguments_in_place, "changes its argument 'wanted'"),
    ],
)
def test_wrong_recalls_are_rejected_with_a_fitting_hint(function, hint, seed):
    with pytest.raises(CheckFailed, match=hint):
        diagnosis.check_recalls(function, seed=seed)
