"""The data directory: held by one, its key made once and kept private."""

import base64
import stat

import pytest

from local import datadir


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path):
    refused = pytest.raises(datadir.InUseError, match=r"already runs .* \(process \d+\)")
    with datadir.hold(tmp_path), refused, datadir.hold(tmp_path):
        pass


def test_the_directory_is_free_again_after_its_holder(tmp_path):
    with datadir.hold(tmp_path):
        pass
    with datadir.hold(tmp_path):
        assert (tmp_path / "up.lock").exists()


def test_a_new_directory_is_closed_to_others(tmp_path):
    with datadir.hold(tmp_path / "data"):
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_the_master_key_is_made_once_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "master.key"
    first = datadir.master_key(path)
    assert datadir.master_key(path) == first
    assert len(base64.b64decode(first)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_machines_have_two_keys(tmp_path):
    assert datadir.master_key(tmp_path / "one") != datadir.master_key(tmp_path / "two")


def test_what_an_up_tells_its_processes_counts_where_nothing_else_is_set(tmp_path):
    told = {"FLOWTRACK_API_PORT": "1", "FLOWTRACK_DATABASE_URL": "postgresql://here/x"}
    assert datadir.variables(tmp_path, {}) == {}
    datadir.keep(tmp_path / datadir.ENVIRONMENT, told)
    assert stat.S_IMODE((tmp_path / datadir.ENVIRONMENT).stat().st_mode) == 0o600
    assert datadir.variables(tmp_path, {"HOME": "/"}) == told
    assert datadir.variables(tmp_path, {"FLOWTRACK_DATABASE_URL": "postgresql://elsewhere/x"}) == {}
    # Whoever sets one thing, or the same database, still means this installation.
    mine = {"FLOWTRACK_SMTP_URL": "smtp://mine", "FLOWTRACK_API_PORT": "2"}
    assert datadir.variables(tmp_path, mine) == {"FLOWTRACK_DATABASE_URL": "postgresql://here/x"}
    assert datadir.variables(tmp_path, {"FLOWTRACK_DATABASE_URL": "postgresql://here/x"}) == {
        "FLOWTRACK_API_PORT": "1"
    }
