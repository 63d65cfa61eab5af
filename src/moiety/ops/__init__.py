"""Mathematics without opinions: trees and optimisers."""
