"""Questions made by rule from sentences: their verbs, their words, and that the answer is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.paraphrase import alternatives, paraphrase
from training.questions import Span, ask, choose, spans
from training.verbs import clause, past, progressive, third


def asked(marked: str, word: str, draws: int = 300) -> set[str]:
    """Every way to ask for what stands in brackets, in lower case and without a mark."""
    start, end = marked.index("["), marked.index("]") - 1
    sentence = marked.replace("[", "").replace("]", "")
    rng = np.random.default_rng(0)
    questions = [ask(sentence, Span(start, end, word), rng) for _ in range(draws)]
    assert {question.answer for question in questions} == {sentence[start:end]}
    return {question.text.lower().rstrip("?") for question in questions}


@pytest.mark.parametrize(
    ("marked", "word", "question"),
    [
        ("Ian Murdock created Debian in [1993].", "year", "when did ian murdock create debian"),
        ("In [1993], Ian Murdock created the Debian project.", "year",
         "in what year did ian murdock create the debian project"),
        ("The river flows into [the sea].", "what", "what does the river flow into"),
        ("The river flows into [the sea].", "what", "into what does the river flow"),
        ("[Ian Murdock] created Debian in 1993.", "what", "who created debian in 1993"),
        ("The bridge was built in [1890].", "year", "when was the bridge built"),
        ("Many lending libraries contain [a reference section].", "what",
         "what do many lending libraries contain"),
        ("The city had a population of [5,000].", "how much", "what population did the city have"),
        ("The [reportbug] package guides through reporting a bug.", "what",
         "which package guides through reporting a bug"),
        ("The [reportbug] package guides through reporting a bug.", "what",
         "what is the name of the package that guides through reporting a bug"),
        ("He returned to the city of [Lyon] in 1802.", "where",
         "which city did he return to in 1802"),
        ("He fought in the [Loire] valley.", "where", "in which valley did he fight"),
        ("The novel was praised by programmer [Ian Murdock].", "who",
         "which programmer was the novel praised by"),
        ("The church was destroyed because [the town was flooded].", "why",
         "why was the church destroyed"),
        ("He tried to relax by [viewing the dramas].", "how", "how did he try to relax"),
        ("The result is known as [Hölder]'s theorem.", "whose",
         "whose theorem is the result known as"),
        ("Colombia has [4,350] kilometers of gas pipelines.", "how many",
         "how many kilometers of gas pipelines does colombia have"),
        ("The building stood for nearly [80 years].", "how much",
         "how long did the building stand"),
        ("The tower is [51 metres] high.", "how much", "how tall is the tower"),
        ("The site takes [8%] of the profits.", "how much",
         "what percentage of the profits does the site take"),
    ],
)  # fmt: skip
def test_people_ask_so(marked: str, word: str, question: str) -> None:
    assert question in asked(marked, word)


def test_the_verb_is_found_or_none() -> None:
    found = clause("The old river flows into the sea")
    assert found is not None
    assert (found.subject, found.verb, found.base) == ("The old river", "does", "flow")
    for text in (
        "The map described in the paper was applied twice",  # a participle
        "Instruments made mostly from plastic, for example, emerged",
        "The man who built the bridge died",
        "In the sea the river ends",
        "Massive deposits of rare earths",
        "Short strings",
    ):
        assert clause(text) is None or clause(text).verb not in {"did", "does"}, text  # type: ignore


@pytest.mark.parametrize(
    ("base", "forms"),
    [
        ("stop", ("stops", "stopped", "stopping")),
        ("carry", ("carries", "carried", "carrying")),
        ("play", ("plays", "played", "playing")),
        ("visit", ("visits", "visited", "visiting")),
        ("refer", ("refers", "referred", "referring")),
        ("move", ("moves", "moved", "moving")),
        ("tie", ("ties", "tied", "tying")),
        ("reach", ("reaches", "reached", "reaching")),
    ],
)
def test_verbs_are_inflected(base: str, forms: tuple[str, str, str]) -> None:
    assert (third(base), past(base), progressive(base)) == forms


def test_synonyms_keep_the_inflection_and_the_answer() -> None:
    rng = np.random.default_rng(0)
    text = "who purchased two automobiles in Paris"
    made = {paraphrase(text, "bought", rng, rate=1.0, share=1.0) for _ in range(50)}
    assert made <= {f"who purchased two {cars} in Paris" for cars in ("cars", "autos")}
    assert paraphrase(text, "", rng, share=0.0) == text
    assert "began" not in str(alternatives().get("started"))  # it is not the participle, too
    assert "Bill Gates" in paraphrase("when did Bill Gates die?", "", rng, rate=1.0, share=1.0)
    assert paraphrase("when did he die?", "", rng, 1.0, 1.0) == "when did he pass away?"


_WORDS = (
    "the The a river city of Lyon Ian Murdock created was built in by 1993 12 km years old flows "
    "into and , who which package programmer had population because it they making percent 8% "
    "Newton's laws ( ) \" France large began is called that people moved to from for about"
)


@settings(deadline=None, max_examples=300)
@given(
    words=st.lists(st.sampled_from(_WORDS.split()), min_size=1, max_size=25),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_answer_is_in_the_sentence_and_not_in_the_question(words: list[str], seed: int) -> None:
    sentence = " ".join(words).replace(" ,", ",") + "."
    found = spans(sentence)
    if not found:
        return
    span = choose(found, np.random.default_rng(seed))
    question = ask(sentence, span, np.random.default_rng(seed))
    assert question.answer == sentence[span.start : span.end] != ""
    assert question == ask(sentence, span, np.random.default_rng(seed))
    answer = question.answer.lower()
    assert answer not in question.text.lower() or sentence.lower().count(answer) > 1
