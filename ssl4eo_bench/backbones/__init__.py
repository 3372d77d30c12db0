"""Backbones that ship as plug-ins; each module is imported when a checkpoint names its class."""
