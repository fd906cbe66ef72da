"""Finds or downloads model directories, opens them, and reads them tensor by tensor. Uses neither TVM nor
architectures.
"""
