"""Model directories as they come: found or downloaded, opened, read tensor by tensor. Knows neither TVM nor
architectures.
"""
