"""Progress bars."""

from semipose.utils.progress import NO_PROGRESS, Progress, ProgressBar


class RecordingBar(ProgressBar):
    def __init__(self, calls):
        self.calls = calls

    def update(self, done, note=""):
        self.calls.append(done)

    def close(self):
        self.calls.append("closed")


class RecordingProgress(Progress):
    def __init__(self):
        self.calls = []

    def start(self, description, total, done=0):
        self.calls.append((description, total, done))
        return RecordingBar(self.calls)


def test_track_reports_every_item_and_closes():
    progress = RecordingProgress()
    assert list(progress.track("ab", 2, "reading")) == ["a", "b"]
    assert progress.calls == [("reading", 2, 0), 1, 2, "closed"]


def test_bar_closes_when_the_work_fails():
    progress = RecordingProgress()
    try:
        with progress.start("reading", 3):
            raise ValueError
    except ValueError:
        pass
    assert progress.calls[-1] == "closed"


def test_no_progress_shows_nothing(capsys):
    assert list(NO_PROGRESS.track(range(3), 3, "reading")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
