"""One gold answer for each task, and how a model may write a good answer to it."""

from vlm_r1.types import AnswerValue

GOLD: dict[str, AnswerValue] = {
    "rec": [1, 2, 30, 40],
    "multi_rec": [[1, 2, 30, 40], [31, 2, 60, 40]],
    "ovd": [{"bbox_2d": [1, 2, 30, 40], "label": "cat"}],
    "counting": 3,
    "vqa": "No Defect",
    "choice": "B",
    "yes_no": True,
    "math": "\\frac{1}{2}",
    "gui_defect": "No Defect",
    "gui_click": [1, 2, 30, 40],
    "classification": "cat",
    "document": ["12 May 2024", "2024-05-12"],
}

WRITTEN: dict[str, str] = {
    "rec": "[1, 2, 30, 40]",
    "multi_rec": '```json\n[{"bbox_2d": [1, 2, 30, 40]}, {"bbox_2d": [31, 2, 60, 40]}]\n```',
    "ovd": '```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}, {"bbox_2d": [3, 4, 5, 6], "label": "dog"}]\n```',
    "counting": "3",
    "vqa": "No Defect",
    "choice": "(B) a cat",
    "yes_no": "Yes.",
    "math": "\\frac{1}{2}",
    "gui_defect": "No Defect",
    "gui_click": '{"point_2d": [15, 20]}',
    "classification": "cat",
    "document": "12 May 2024",
}
