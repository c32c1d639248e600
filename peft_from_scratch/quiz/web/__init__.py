"""Quizzes in a browser: pages that need no server, no network and no library, and remember in the reader's browser."""

from .page import course_page, quiz_page

__all__ = ["course_page", "quiz_page"]
