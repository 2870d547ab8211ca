# SPDX-License-Identifier: Apache-2.0
"""The conversation of launcher and child: sentences arrive whole, whatever is in them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.runtime import channel as words
from rootless.runtime.channel import Channel


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_sentences_arrive_in_order_and_both_ways(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.send(words.UNSHARED)
    theirs.send(words.PROCESS, 17, 0)
    assert ours.receive() == (words.UNSHARED, [])
    assert ours.receive() == (words.PROCESS, ["17", "0"])
    ours.send(words.GO, 5)
    assert theirs.receive() == (words.GO, ["5"])


def test_silence_is_the_end(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.send(words.CREATED)
    theirs.close()
    assert ours.receive() == (words.CREATED, [])
    assert ours.receive() == (words.END, [])
    with pytest.raises(BrokenPipeError):
        ours.send(words.GO)


def test_half_a_sentence_is_the_end(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    os.write(theirs.writing, b"F00")
    theirs.close()
    assert ours.receive() == (words.END, [])


def test_descriptors_do_not_survive_an_exec(pair: tuple[Channel, Channel]) -> None:
    assert not os.get_inheritable(pair[0].writing)
    assert not os.get_inheritable(pair[1].writing)


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=2))
def test_fields_come_back_as_they_were(fields: list[str]) -> None:
    ours, theirs = Channel.pair()
    theirs.send(words.FAILED, *fields)
    assert ours.receive() == (words.FAILED, fields)
    ours.close()
    theirs.close()


def test_bytes_of_a_file_name_that_are_no_text_come_back(pair: tuple[Channel, Channel]) -> None:
    name = os.fsdecode(b"\xff\xfe")
    pair[1].send(words.FAILED, "command", name)
    assert pair[0].receive()[1] == ["command", name]


def test_name_longer_than_a_pipe_holds_arrives_whole(pair: tuple[Channel, Channel]) -> None:
    name = "x" * 131_071  # the longest argument execve(2) takes
    speaking = threading.Thread(target=pair[1].send, args=(words.FAILED, "command", 2, name, name))
    speaking.start()
    assert pair[0].receive() == (words.FAILED, ["command", "2", name, name])
    speaking.join()
