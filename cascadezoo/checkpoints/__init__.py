"""Weights files: conversion from a publisher's format and back, inspection, and the weights of an entry."""
