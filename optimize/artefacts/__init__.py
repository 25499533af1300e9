"""What ``veriframe export`` writes: real pictures to compare on, the networks for each runtime, the folder and its manifest."""
