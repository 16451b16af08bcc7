"""Images: photos in, 8-bit PNGs out; maps, target maps, and pictures for people."""
