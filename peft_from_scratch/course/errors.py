"""Errors of the commands in one sentence each, and what a failure of the disk means."""

import errno


class CourseError(Exception):
    """One sentence that says what happened and what to do next."""


def explain(error: OSError) -> str:
    """What a failure of the disk means for the reader."""
    place = error.filename2 or error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full: {place} could not be written. Make room, or choose another folder, and run this again."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"{place} may not be read or written ({error.strerror}). Choose a folder of your own, or change its rights."
        )
    if error.errno == errno.ENOENT:
        return f"There is no {place}. Look at the spelling, or make it first."
    return f"{place}: {error.strerror or error}. Nothing that was there before has been changed."
