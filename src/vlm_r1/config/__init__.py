"""A recipe: YAML and dotted command-line overrides become one frozen, validated value. Imports no torch."""

from vlm_r1.config.load import as_dict, load_config, make_config, parse_overrides, save_config
from vlm_r1.config.schema import Config, DataSource

__all__ = ["Config", "DataSource", "as_dict", "load_config", "make_config", "parse_overrides", "save_config"]
