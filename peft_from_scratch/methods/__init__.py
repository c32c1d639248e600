"""The methods: one paper, one file, in the folders of the field's taxonomy."""
