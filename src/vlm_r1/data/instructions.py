"""A guess whether a problem is a whole instruction rather than a name or an expression, in the usual languages."""

from __future__ import annotations

import re

from vlm_r1.parsing.names import split_names

_LONG = 300
"""A longer text between two commas, in characters, is an instruction."""
_LONG_CJK = 30
"""The same for Chinese or Japanese characters, of which fewer are needed."""

_FORM = re.compile(  # words about the form of an answer that are no names of objects
    r"json|\bcoordinate|coordenad|coordonn|koordinat|coordinat[ei]\b|współrzędn|координат|坐标|座標|좌표|إحداثي"
    r"|निर्देशांक|边界框|邊界框|包围盒|bounding|\bbbox|\[ ?x_?1|\bx_?min\b|输出|輸出|出力|출력|格式|形式で|형식",
    re.IGNORECASE,
)
_ORDER = re.compile(  # beginnings of orders
    r"(?:please|you (?:are|will|must)|detect|find|locate|identify|return|look (?:at|for)|provide|output)\b"
    r"|(?:give|show|tell|point|mark|label|list|draw|outline|check|box|count|search)\s"
    r"(?:me|all|every|each|out|for|the|any)\b"
    r"|(?:in|from|for|given|using) (?:this|the|an?) (?:image|picture|photo)\b"
    r"|(?:bitte|finde|erkenne|suche|lokalisiere|gib|zeige|vind|zoek|lütfen|hãy|temukan|deteksi|tolong)\b"
    r"|(?:veuillez|busca|por favor|localiza|encontre|aponte|trova|trovi|rileva|individua)\b"
    r"|trouve|détecte|localise|repère|indique|donne|encuentra|encuentre|detecta|detecte|identifica|identifique"
    r"|найди|обнаруж|определи|укажи|выдели|пожалуйста|znajdź|wykryj|proszę"
    r"|请|請|找出|找到|检测|檢測|标出|標出|框出|定位|识别|識別|给出|給出|指出"
    r"|在(?:图|圖|这|這)|この?画像|이 이미지|사진에서"
    r"|ابحث|حدد|اكتشف|खोजें",
    re.IGNORECASE,
)
_ORDER_AT_THE_END = re.compile(
    r"(?:ください|下さい|しなさい|せよ|見つけて|検出して|주세요|하십시오|하세요|찾아라)[。.!！]?$"
)
_NEXT_SENTENCE = re.compile(r"[.!?;:]\s+\S|[。！？；：]\s*\S")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def is_whole_instruction(problem: str, *, orders: bool = True) -> bool:
    """Guess whether a problem itself says what to do or how to answer, so that a task's sentence must not wrap it.

    This serves a warning. Signs are long texts, several sentences, orders, and words such as JSON and coordinates.

    Args:
        problem: the text without its `<image>` marks.
        orders: whether an order counts as a sign; False where every problem is an order ("click OK").

    >>> [is_whole_instruction(text) for text in ("the man who finds a key", "Find all cats.", "请检测所有安全帽")]
    [False, True, True]
    """
    text = problem.strip()
    names = split_names(text)
    if _FORM.search(text) or any(len(name) > _LONG for name in names):
        return True
    if not orders:
        return False
    several = _NEXT_SENTENCE.search(text) and (len(text) > 80 or len(_CJK.findall(text)) > _LONG_CJK // 2)
    long = any(len(_CJK.findall(name)) > _LONG_CJK for name in names)
    return bool(_ORDER.match(text) or _ORDER_AT_THE_END.search(text) or several or long)
