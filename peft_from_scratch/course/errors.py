"""Errors of the commands in one sentence each, and what a failure of the disk means."""

import errno


class CourseError(Exception):
    """One sentence that says what happened and what to do next."""


def explain(error: OSError) -> str:
    """What a failure of the disk means for the reader."""
    if error.errno is None:  # raised here, with a sentence of its own
        return str(error)
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
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"{place} is a file, where a folder is wanted. Choose another folder, or move that file away."
    if error.errno == errno.EISDIR:
        return f"{place} is a folder, where a file is wanted. Name a file, for example one in it."
    return f"{place}: {error.strerror or error}. Nothing that was there before has been changed."
