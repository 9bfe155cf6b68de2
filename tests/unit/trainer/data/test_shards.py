import errno
import shutil
import time

import pytest
from support.services.faulty_proxy import outage

from preprocessing.errors import BAD_DATA, STORAGE_FAILED, CommandError
from trainer.data import integrity
from trainer.data.disk_cache import ROOT_NAME
from trainer.data.fetch import find_dataset, open_dataset, open_shards, verify_split
from trainer.data.shards import RemoteShards
from trainer.runs.storage import GcsPrefix


@pytest.fixture
def hashed(monkeypatch):
    """Return the list of the names of files whose checksums are computed."""
    names, sha256 = [], integrity._sha256
    monkeypatch.setattr(integrity, "_sha256", lambda path: names.append(path.name) or sha256(path))
    return names


@pytest.fixture
def bucket(dataset, storage_server, request):
    """Upload the dataset; return its URI."""
    uri = f"{storage_server}/shards/{request.node.name}"
    GcsPrefix(uri).upload([path.name for path in dataset.iterdir() if path.is_file()], dataset)
    return uri


def read(uri, cache, limit_bytes=10**9):
    """Read all shards of the training split; return the source and the manifest."""
    uri, manifest = find_dataset(str(uri))
    source = open_shards(uri, manifest, cache, limit_bytes)
    verify_split(source, manifest, "train")
    return source, manifest


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_in_a_local_shard_is_detected_before_it_is_read(dataset, tmp_path, hashed):
    folder, cache = tmp_path / "data", tmp_path / "cache"
    shutil.copytree(dataset, folder)
    _, manifest = read(folder, cache)
    names = [shard.name for shard in manifest.split_shards("train")]
    assert sorted(hashed) == names
    hashed.clear()
    source, _ = read(folder, cache)
    assert hashed == []  # recognized by size and modification time
    flip_bit(folder / names[1])
    for again in (lambda: verify_split(source, manifest, "train"), lambda: read(folder, cache)):
        with pytest.raises(CommandError, match=f"{names[1]} is missing or differs") as caught:
            again()
        assert caught.value.exit_code == BAD_DATA
    assert set(hashed) == {names[1]}
    next((cache / integrity.FOLDER).iterdir()).write_text("not JSON")
    (folder / names[1]).unlink()
    with pytest.raises(CommandError, match=f"{names[1]} is missing"):
        read(folder, cache)


def test_remote_shards_are_fetched_once_and_again_if_they_change(bucket, tmp_path, hashed):
    _, manifest = read(bucket, tmp_path)
    folder = tmp_path / ROOT_NAME / manifest.digest
    names = [shard.name for shard in manifest.split_shards("train")]
    assert sorted(hashed) == names
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    hashed.clear()
    read(bucket, tmp_path)
    assert hashed == []
    flip_bit(folder / names[0])
    read(bucket, tmp_path)
    assert hashed == [names[0]] * 2  # what is there, and what is fetched
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == content


def test_the_cache_keeps_to_its_size_and_a_shard_that_is_fetched_again_is_verified_again(
    bucket, tmp_path, hashed
):
    _, manifest = find_dataset(bucket)
    largest = max(shard.bytes for shard in manifest.shards)
    source, _ = read(bucket, tmp_path, largest + 1)
    folder = tmp_path / ROOT_NAME / manifest.digest
    assert len(list(folder.iterdir())) == 1
    verify_split(source, manifest, "train")
    names = [shard.name for shard in manifest.split_shards("train")]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= largest + 1
    assert all(hashed.count(name) >= 1 for name in names)
    assert len(hashed) > len(names)


def test_shards_of_other_datasets_make_room_first(bucket, tmp_path):
    other = tmp_path / ROOT_NAME / "other/train-00000-of-00001.tfrecord"
    other.parent.mkdir(parents=True)
    other.write_bytes(bytes(50_000))
    _, manifest = find_dataset(bucket)
    read(bucket, tmp_path, sum(shard.bytes for shard in manifest.shards))
    assert not other.exists()
    fetched = {path.name for path in (tmp_path / ROOT_NAME / manifest.digest).iterdir()}
    assert fetched == {shard.name for shard in manifest.split_shards("train")}


def test_datasets_of_the_user_in_the_cache_folder_are_not_deleted(bucket, tmp_path):
    own = tmp_path / "datasets/version-1/train-00000-of-00001.tfrecord"
    own.parent.mkdir(parents=True)
    own.write_bytes(bytes(50_000))
    _, manifest = find_dataset(bucket)
    read(bucket, tmp_path, sum(shard.bytes for shard in manifest.shards))
    assert own.read_bytes() == bytes(50_000)


@pytest.mark.parametrize("fault", ["missing", "corrupt"])
def test_a_remote_shard_that_is_missing_or_corrupt_is_named(bucket, tmp_path, fault):
    name = find_dataset(bucket)[1].split_shards("train")[1].name
    prefix = GcsPrefix(bucket)
    data = bytearray(prefix.read(name))
    if fault == "missing":
        prefix.delete(name)
    else:
        data[100] ^= 1
        prefix.write(name, bytes(data))
    with pytest.raises(CommandError, match=r"is missing or differs from dataset\.json") as caught:
        read(bucket, tmp_path)
    assert str(caught.value).startswith(f"{bucket}/{name} is missing")
    assert caught.value.exit_code == BAD_DATA
    data[100] ^= fault == "corrupt"
    prefix.write(name, bytes(data))
    read(bucket, tmp_path)


def test_a_bucket_that_refuses_is_exit_code_4(bucket, proxy, tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE_DEADLINE_SECS", "0.3")
    source, manifest = open_dataset(bucket, tmp_path)
    with outage(proxy, ("503",)), pytest.raises(CommandError, match="cannot be reached") as caught:
        verify_split(source, manifest, "train")
    assert caught.value.exit_code == STORAGE_FAILED


def test_a_full_disk_is_one_sentence_with_exit_code_4(bucket, tmp_path, monkeypatch):
    def full(self, names, folder):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / names[0]))

    with monkeypatch.context() as patch:
        patch.setattr(GcsPrefix, "download", full)
        with pytest.raises(CommandError) as caught:
            read(bucket, tmp_path)
    assert caught.value.exit_code == STORAGE_FAILED
    message = caught.value.for_command_line()
    assert message.endswith(
        "No space left on device; free some space, lower --cache-disk-gb or choose another --cache-dir"
    )
    deadline = time.monotonic() + 10
    while list((tmp_path / ROOT_NAME).glob(".*")):  # other threads may be about to fail too
        assert time.monotonic() < deadline
        time.sleep(0.01)
    read(bucket, tmp_path)


def test_a_pinned_shard_is_not_deleted_by_another_process(bucket, tmp_path):
    uri, manifest = find_dataset(bucket)
    limit = max(shard.bytes for shard in manifest.shards) + 1
    one, other = (RemoteShards(uri, manifest.digest, tmp_path, limit) for _ in range(2))
    first, second = manifest.split_shards("train")[:2]
    assert one.reserve(first, lambda name: 0.0, 0)
    one.fetch(first)
    one.settle(first, is_ready=True)
    path = one.pin(first)
    assert not other.reserve(second, lambda name: 9.0, 0)
    assert path.exists()
    one.unpin(first)
    assert other.reserve(second, lambda name: 9.0, 0)
    assert one.pin(first) is None
